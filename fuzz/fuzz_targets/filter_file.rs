#![no_main]

libfuzzer_sys::fuzz_target!(init: banward::hostile::sow("filter_file"), |data: &[u8]| banward::hostile::run("filter_file", data));
