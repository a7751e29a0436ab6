#![no_main]

libfuzzer_sys::fuzz_target!(init: banward::hostile::sow("stamp"), |data: &[u8]| banward::hostile::run("stamp", data));
