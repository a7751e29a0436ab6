//! How hits add up and how long bans are: `maxretry`, `findtime` and `bantime` become a window and a ban.

use std::fmt;

use super::ini::Ini;
use super::report::Report;
use super::values::{is_on, length, seconds};

/// Longest window of ours, in seconds.
const LONGEST_WINDOW: i64 = 366 * 86_400;

/// Largest factor of ours.
const MOST_TIMES: i64 = 1000;

/// What fail2ban does where nothing is said: five failures within ten minutes, ten minutes.
const RETRIES: &str = "5";
const MINUTES: &str = "10m";

/// The window and the ban of a jail, as our configuration writes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    pub(super) window: String,
    pub(super) ban: String,
}

impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "window = {}, ban = {}", self.window, self.ban)
    }
}

/// Reads the settings of a jail. `purge` is how long fail2ban remembers bans.
pub(super) fn read(ini: &Ini, section: &str, shown: &str, purge: &str, report: &mut Report) -> Rules {
    let mut reader = Reader { ini, section, shown, report };
    let hitcount = reader.number("maxretry", RETRIES).clamp(1, 65_535);
    let wanted = reader.number("findtime", MINUTES).max(1);
    let within = wanted.min(LONGEST_WINDOW);
    if within < wanted {
        reader.report.adapted(shown, "findtime", "the longest window is 366 days");
    }
    let ban = reader.ban(purge);
    Rules { window: format!("{{ hitcount = {hitcount}, seconds = {within} }}"), ban }
}

struct Reader<'a> {
    ini: &'a Ini,
    section: &'a str,
    /// The section in the report.
    shown: &'a str,
    report: &'a mut Report,
}

impl Reader<'_> {
    fn text(&mut self, key: &str) -> Option<String> {
        match self.ini.value(self.section, key) {
            Ok(value) => value.map(|value| value.trim().to_owned()).filter(|value| !value.is_empty()),
            Err(why) => {
                self.report.needs_you(self.shown, key, why);
                None
            }
        }
    }

    fn number(&mut self, key: &str, otherwise: &str) -> i64 {
        let text = self.text(key).unwrap_or_else(|| otherwise.to_owned());
        seconds(&text).unwrap_or_else(|| {
            self.report.needs_you(self.shown, key, format!("'{text}' is not understood; {otherwise} is used"));
            seconds(otherwise).unwrap_or_default()
        })
    }

    fn ban(&mut self, purge: &str) -> String {
        let time = self.number("bantime", MINUTES);
        if time < 0 || !self.text("bantime.increment").is_some_and(|text| is_on(&text)) {
            let time = length(time);
            return format!("{{ time = \"{time}\", factor = 1, max = \"{time}\" }}");
        }
        let max = self.text("bantime.maxtime").and_then(|text| seconds(&text));
        let (factor, last) = self.growth();
        let max = match (max, last) {
            (Some(max), _) => length(max.max(time)),
            (None, Some(last)) => length(time.saturating_mul(last)),
            (None, _) => "forever".to_owned(),
        };
        let forget = seconds(purge).unwrap_or(86_400);
        let forget = length(forget.max(1));
        format!("{{ time = \"{}\", factor = {factor}, max = \"{max}\", forget = \"{forget}\" }}", length(time))
    }

    /// By how much each ban is longer than the one before, and how much the longest is than the first.
    fn growth(&mut self) -> (i64, Option<i64>) {
        let shown = self.shown;
        if self.text("bantime.rndtime").is_some_and(|text| seconds(&text) != Some(0)) {
            self.report.adapted(shown, "bantime.rndtime", "left out: bans end on the second");
        }
        if self.text("bantime.factor").is_some_and(|text| text.parse() != Ok(1.0)) {
            self.report.adapted(
                shown,
                "bantime.factor",
                "left out: each ban is longer than the one before by one factor",
            );
        }
        if self.text("bantime.overalljails").is_some_and(|text| !is_on(&text)) {
            self.report.adapted(shown, "bantime.overalljails", "the bans of all jails count");
        }
        if let Some(multipliers) = self.text("bantime.multipliers") {
            let steps: Vec<i64> = multipliers.split_whitespace().filter_map(|step| step.parse().ok()).collect();
            let last = steps.last().copied().unwrap_or(1).max(1);
            let ratio = steps.get(1).map_or(1, |second| second / steps[0].max(1)).clamp(1, MOST_TIMES);
            let even = steps.windows(2).all(|pair| pair[1] == pair[0].saturating_mul(ratio));
            if !even {
                let text =
                    format!("each ban is {ratio} times longer than the one before, up to {last} times the first");
                self.report.adapted(shown, "bantime.multipliers", text);
            }
            return (ratio, Some(last));
        }
        if self.text("bantime.formula").is_some() && self.ini.own(self.section, "bantime.formula").is_some() {
            self.report.needs_you(shown, "bantime.formula", "there are no formulas: set 'factor'; 2 is used");
        }
        (2, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> (String, String) {
        let ini = Ini::parse(&format!("[j]\n{text}"));
        let rules = read(&ini, "j", "j", "1d", &mut Report::default());
        (rules.window, rules.ban)
    }

    #[test]
    fn what_is_not_said_is_as_in_fail2ban() {
        let (window, ban) = rules("");
        assert_eq!(window, "{ hitcount = 5, seconds = 600 }");
        assert_eq!(ban, "{ time = \"10m\", factor = 1, max = \"10m\" }");
    }

    #[test]
    fn lengths_and_growth_are_taken_over() {
        assert_eq!(rules("maxretry = 3\nfindtime = 1d\n").0, "{ hitcount = 3, seconds = 86400 }");
        for (text, ban) in [
            ("bantime = -1", "time = \"forever\", factor = 1, max = \"forever\""),
            ("bantime = 1h\nbantime.increment = true", "time = \"1h\", factor = 2, max = \"forever\", forget = \"1d\""),
            (
                "bantime = 1h\nbantime.increment = yes\nbantime.maxtime = 1w",
                "time = \"1h\", factor = 2, max = \"7d\", forget = \"1d\"",
            ),
            (
                "bantime = 10m\nbantime.increment = 1\nbantime.multipliers = 1 4 16 64",
                "time = \"10m\", factor = 4, max = \"10h40m\", forget = \"1d\"",
            ),
        ] {
            assert_eq!(rules(text).1, format!("{{ {ban} }}"), "{text}");
        }
    }
}
