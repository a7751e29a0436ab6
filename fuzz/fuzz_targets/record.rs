#![no_main]

libfuzzer_sys::fuzz_target!(init: banward::hostile::sow("record"), |data: &[u8]| banward::hostile::run("record", data));
