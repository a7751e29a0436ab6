#![no_main]

libfuzzer_sys::fuzz_target!(init: banward::hostile::sow("header"), |data: &[u8]| banward::hostile::run("header", data));
