#![no_main]

libfuzzer_sys::fuzz_target!(init: banward::hostile::sow("netlink"), |data: &[u8]| banward::hostile::run("netlink", data));
