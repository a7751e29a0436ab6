#![no_main]

libfuzzer_sys::fuzz_target!(init: banward::hostile::sow("control"), |data: &[u8]| banward::hostile::run("control", data));
