//! How times are shown to people: on a terminal in the zone of the reader and short, elsewhere as in JSON.

use std::time::Duration;

use jiff::tz::Offset;

use crate::time::{Timestamp, Until, format_duration};

/// The moment and place of the reader.
pub(crate) struct Reader {
    pub(crate) now: Timestamp,
    /// Of the reader's zone now; `None` shows RFC 3339 in UTC. All times of a table share it, so that they compare.
    offset: Option<Offset>,
}

impl Reader {
    pub(crate) fn new(at_terminal: bool) -> Reader {
        let now = Timestamp::now();
        let offset = instant(now).map(|now| jiff::tz::TimeZone::system().to_offset(now));
        Reader { now, offset: offset.filter(|_| at_terminal) }
    }

    /// `Nov 21 01:30`, or `2027-11-21` when that is another year than the reader's.
    pub(crate) fn show(&self, time: Timestamp) -> String {
        self.local(time).map_or_else(|| time.to_string(), |(text, _)| text)
    }

    /// As [`Reader::show`], with the seconds.
    pub(crate) fn show_seconds(&self, time: Timestamp) -> String {
        self.local(time).map_or_else(|| time.to_string(), |(_, text)| text)
    }

    pub(crate) fn show_end(&self, until: Until) -> String {
        match until {
            Until::At(end) => self.show(end),
            Until::Forever => "forever".to_owned(),
        }
    }

    /// The zone that times are shown in: `UTC`, `UTC+01`.
    pub(crate) fn zone(&self) -> String {
        match self.offset {
            Some(offset) if offset != Offset::UTC => format!("UTC{offset}"),
            _ => "UTC".to_owned(),
        }
    }

    fn local(&self, time: Timestamp) -> Option<(String, String)> {
        let offset = self.offset?;
        let (time, now) = (offset.to_datetime(instant(time)?), offset.to_datetime(instant(self.now)?));
        let full = time.strftime("%b %e %H:%M:%S").to_string();
        let short = if time.year() == now.year() { "%b %e %H:%M" } else { "%Y-%m-%d" };
        Some((time.strftime(short).to_string(), full))
    }
}

fn instant(time: Timestamp) -> Option<jiff::Timestamp> {
    jiff::Timestamp::from_second(time.as_secs()).ok()
}

/// A duration by its largest unit and the next smaller one: `29d23h`.
pub(crate) fn brief(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let coarse = match seconds {
        86_400.. => seconds - seconds % 3600,
        3600.. => seconds - seconds % 60,
        _ => seconds,
    };
    format_duration(Duration::from_secs(coarse))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: i64 = 1_795_262_400;

    fn reader(hours: i8) -> Reader {
        Reader { now: Timestamp::from_secs(NOON), offset: Some(jiff::tz::offset(hours)) }
    }

    #[test]
    fn times_stand_in_the_zone_of_the_reader() {
        assert_eq!(reader(1).show(Timestamp::from_secs(NOON)), "Nov 21 13:00");
        assert_eq!(reader(-5).show_seconds(Timestamp::from_secs(NOON + 7)), "Nov 21 07:00:07");
        assert_eq!(reader(0).show(Timestamp::from_secs(NOON + 365 * 86_400)), "2027-11-21");
        assert_eq!((reader(0).zone(), reader(1).zone()), ("UTC".to_owned(), "UTC+01".to_owned()));
    }

    #[test]
    fn away_from_a_terminal_times_are_rfc_3339() {
        let reader = Reader { offset: None, ..reader(1) };
        assert_eq!(reader.show(Timestamp::from_secs(NOON)), "2026-11-21T12:00:00Z");
        assert_eq!(reader.show_end(Until::Forever), "forever");
    }

    #[test]
    fn two_units_say_enough() {
        let shown = [0, 59, 3629, 5399, 2_591_999].map(|seconds| brief(Duration::from_secs(seconds)));
        assert_eq!(shown, ["0s", "59s", "1h", "1h29m", "29d23h"]);
    }
}
