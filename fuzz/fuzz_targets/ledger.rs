#![no_main]

libfuzzer_sys::fuzz_target!(init: banward::hostile::sow("ledger"), |data: &[u8]| banward::hostile::run("ledger", data));
