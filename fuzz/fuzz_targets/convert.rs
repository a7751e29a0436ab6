#![no_main]

libfuzzer_sys::fuzz_target!(init: banward::hostile::sow("convert"), |data: &[u8]| banward::hostile::run("convert", data));
