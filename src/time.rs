//! Points in time, durations as users write them, and how both are shown.
//!
//! Nothing from `filters` to `ledger` reads a clock: [`Timestamp::now`] is called at the edges only (sources,
//! daemon, `banctl`), and `now` travels inward as an argument. That is what makes a log replayable.

use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A point in time: microseconds since 1970-01-01T00:00:00Z. Bounded to years 1970 to 9999.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Timestamp(i64);

/// The last microsecond that can be written in every zone of the world, 9999-12-30T22:00:00Z: the calendar ends there.
const LAST_MICRO: i64 = 253_402_207_200_000_000;

impl Timestamp {
    /// The beginning of 1970, earlier than any log line.
    pub(crate) const EPOCH: Timestamp = Timestamp(0);

    /// The wall clock. For the edges only.
    pub(crate) fn now() -> Timestamp {
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp::EPOCH + since_epoch
    }

    /// Values outside the years 1970 to 9999 are brought to the nearest end.
    pub(crate) const fn from_micros(micros: i64) -> Timestamp {
        if micros < 0 {
            Timestamp(0)
        } else if micros > LAST_MICRO {
            Timestamp(LAST_MICRO)
        } else {
            Timestamp(micros)
        }
    }

    pub(crate) const fn from_secs(secs: i64) -> Timestamp {
        Timestamp::from_micros(secs.saturating_mul(1_000_000))
    }

    pub(crate) const fn as_micros(self) -> i64 {
        self.0
    }

    pub(crate) const fn as_secs(self) -> i64 {
        self.0 / 1_000_000
    }

    /// How long before `self` the moment `earlier` was; zero when it was not before.
    pub(crate) fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_micros(u64::try_from(self.0 - earlier.0).unwrap_or(0))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Timestamp;
    fn add(self, by: Duration) -> Timestamp {
        let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        Timestamp::from_micros(self.0.saturating_add(micros))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Timestamp;
    fn sub(self, by: Duration) -> Timestamp {
        let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        Timestamp::from_micros(self.0.saturating_sub(micros))
    }
}

/// RFC 3339 in UTC, whole seconds: `2026-11-21T01:30:00Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let instant = jiff::Timestamp::from_second(self.as_secs()).map_err(|_| fmt::Error)?;
        write!(f, "{instant}")
    }
}

impl FromStr for Timestamp {
    type Err = jiff::Error;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let instant: jiff::Timestamp = text.parse()?;
        Ok(Timestamp::from_micros(instant.as_microsecond()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Writes what must come back as it was: with its microseconds.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
pub(crate) fn exactly<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    let instant = jiff::Timestamp::from_microsecond(time.as_micros()).map_err(serde::ser::Error::custom)?;
    serializer.collect_str(&instant)
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// When something ends. Ordered: [`Until::Forever`] is later than any moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Until {
    At(Timestamp),
    Forever,
}

impl Until {
    pub(crate) fn is_over(self, now: Timestamp) -> bool {
        match self {
            Until::At(end) => end <= now,
            Until::Forever => false,
        }
    }

    /// What is left, `None` for ever; zero when it is over.
    pub(crate) fn remaining(self, now: Timestamp) -> Option<Duration> {
        match self {
            Until::At(end) => Some(end.since(now)),
            Until::Forever => None,
        }
    }
}

impl fmt::Display for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Until::At(end) => end.fmt(f),
            Until::Forever => f.write_str("forever"),
        }
    }
}

impl FromStr for Until {
    type Err = jiff::Error;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "forever" { Ok(Until::Forever) } else { text.parse().map(Until::At) }
    }
}

/// In JSON an end is its RFC 3339 time, and `null` when there is none.
impl Serialize for Until {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Until::At(end) => end.serialize(serializer),
            Until::Forever => serializer.serialize_none(),
        }
    }
}

impl<'de> Deserialize<'de> for Until {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::<Timestamp>::deserialize(deserializer)?.map_or(Until::Forever, Until::At))
    }
}

/// How long a ban lasts: a length, or for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Length {
    For(Duration),
    Forever,
}

impl Length {
    pub(crate) fn from(self, start: Timestamp) -> Until {
        match self {
            Length::For(length) => Until::At(start + length),
            Length::Forever => Until::Forever,
        }
    }
}

impl FromStr for Length {
    type Err = DurationError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "forever" { Ok(Length::Forever) } else { parse_duration(text).map(Length::For) }
    }
}

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Length::For(length) => f.write_str(&format_duration(*length)),
            Length::Forever => f.write_str("forever"),
        }
    }
}

/// Why a text is not a duration.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum DurationError {
    Empty,
    MissingNumber,
    MissingUnit,
    UnknownUnit(char),
    TooLong,
}

impl fmt::Display for DurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DurationError::Empty => f.write_str("a duration is empty"),
            DurationError::MissingNumber => f.write_str("a unit of this duration has no number before it"),
            DurationError::MissingUnit => f.write_str("a number of this duration has no unit after it"),
            DurationError::UnknownUnit(unit) => write!(f, "'{}' is not a unit of time", unit.escape_default()),
            DurationError::TooLong => f.write_str("a duration may be 100 years at most"),
        }
    }
}

impl std::error::Error for DurationError {}

/// The units of a duration, largest first, with their seconds.
const UNITS: [(char, u64); 5] = [('w', 604_800), ('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)];

/// Longest duration that may be written: 100 years, so that sums with a time never leave its range.
const LONGEST: Duration = Duration::from_secs(100 * 366 * 86_400);

/// Reads `"90s"`, `"10m"`, `"1h30m"`, `"7d"`, `"2w"`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let mut total: u64 = 0;
    let mut number: Option<u64> = None;
    for character in text.chars() {
        if let Some(digit) = character.to_digit(10) {
            let so_far = number.unwrap_or(0).checked_mul(10).and_then(|n| n.checked_add(u64::from(digit)));
            number = Some(so_far.ok_or(DurationError::TooLong)?);
            continue;
        }
        let (_, seconds) =
            UNITS.iter().find(|(unit, _)| *unit == character).ok_or(DurationError::UnknownUnit(character))?;
        let count = number.take().ok_or(DurationError::MissingNumber)?;
        total = count.checked_mul(*seconds).and_then(|s| s.checked_add(total)).ok_or(DurationError::TooLong)?;
    }
    if number.is_some() {
        return Err(DurationError::MissingUnit);
    }
    if text.is_empty() {
        return Err(DurationError::Empty);
    }
    let total = Duration::from_secs(total);
    if total > LONGEST { Err(DurationError::TooLong) } else { Ok(total) }
}

/// Writes a duration in the form that [`parse_duration`] reads, whole seconds: `1h30m`.
pub(crate) fn format_duration(duration: Duration) -> String {
    let mut rest = duration.as_secs();
    let mut text = String::new();
    for (unit, seconds) in UNITS.into_iter().skip(1) {
        let count = rest / seconds;
        rest %= seconds;
        if count > 0 {
            text.push_str(&count.to_string());
            text.push(unit);
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_moment_can_be_written_also_the_last() {
        assert_eq!(Timestamp::from_micros(i64::MAX).to_string(), "9999-12-30T22:00:00Z");
        assert_eq!(Timestamp::from_micros(i64::MIN).to_string(), "1970-01-01T00:00:00Z");
        let far = Timestamp::from_secs(i64::MAX) + Duration::MAX;
        assert_eq!(serde_json::to_string(&far).unwrap(), "\"9999-12-30T22:00:00Z\"");
    }

    #[test]
    fn durations_are_read_and_written_in_the_same_form() {
        for (text, seconds) in [("90s", 90), ("10m", 600), ("1h30m", 5400), ("7d", 604_800), ("2w", 1_209_600)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(format_duration(Duration::from_secs(5400)), "1h30m");
        assert_eq!(format_duration(Duration::ZERO), "0s");
    }

    #[test]
    fn a_wrong_duration_says_what_is_wrong() {
        assert_eq!(parse_duration(""), Err(DurationError::Empty));
        assert_eq!(parse_duration("10"), Err(DurationError::MissingUnit));
        assert_eq!(parse_duration("m"), Err(DurationError::MissingNumber));
        assert_eq!(parse_duration("10x"), Err(DurationError::UnknownUnit('x')));
        assert_eq!(parse_duration("99999999999999999999d"), Err(DurationError::TooLong));
        assert_eq!(parse_duration("200000d"), Err(DurationError::TooLong));
    }

    #[test]
    fn times_are_shown_as_rfc_3339_in_utc() {
        assert_eq!(Timestamp::from_secs(1_795_224_600).to_string(), "2026-11-21T01:30:00Z");
        assert_eq!("2026-11-21T02:30:00+01:00".parse::<Timestamp>().unwrap(), Timestamp::from_secs(1_795_224_600));
    }

    #[test]
    fn for_ever_is_later_than_any_moment() {
        assert!(Until::Forever > Until::At(Timestamp::from_micros(i64::MAX)));
        assert!(!Until::Forever.is_over(Timestamp::from_micros(i64::MAX)));
    }
}
