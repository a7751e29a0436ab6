#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| banward::hostile::run("netlink", data));
