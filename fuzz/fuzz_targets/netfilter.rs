#![no_main]

libfuzzer_sys::fuzz_target!(init: banward::hostile::sow("netfilter"), |data: &[u8]| banward::hostile::run("netfilter", data));
