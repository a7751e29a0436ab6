#![no_main]

libfuzzer_sys::fuzz_target!(init: banward::hostile::sow("json"), |data: &[u8]| banward::hostile::run("json", data));
