#![no_main]

libfuzzer_sys::fuzz_target!(init: banward::hostile::sow("line"), |data: &[u8]| banward::hostile::run("line", data));
