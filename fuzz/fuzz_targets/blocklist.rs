#![no_main]

libfuzzer_sys::fuzz_target!(init: banward::hostile::sow("blocklist"), |data: &[u8]| banward::hostile::run("blocklist", data));
