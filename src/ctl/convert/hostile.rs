//! Laws of what reads the configuration of fail2ban, for fuzzers (see `hostile.rs`).

use super::ini::Ini;
use super::{pattern, python, values};

/// Every value has an end, and every expression is converted to some that are regular expressions, or refused in words.
pub(crate) fn convert(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut ini = Ini::parse(text);
    ini.overlay(Ini::parse(text));
    let sections: Vec<String> = ini.names().map(str::to_owned).collect();
    for section in &sections {
        let keys: Vec<String> = ini.keys(section).map(str::to_owned).collect();
        for key in keys.iter().take(50) {
            let Ok(Some(value)) = ini.value(section, key) else { continue };
            let _calls = values::calls(&value);
            let _seconds = values::seconds(&value);
            value.lines().take(20).for_each(expression);
        }
    }
    text.lines().take(20).for_each(expression);
}

fn expression(text: &str) {
    if text.len() > 2000 {
        return;
    }
    if let Err(why) = python::translate(text) {
        assert!(!why.is_empty(), "refused without a word");
    }
    if let Ok(patterns) = pattern::convert(text) {
        assert!(!patterns.regexes.is_empty(), "converted to nothing");
    }
}
