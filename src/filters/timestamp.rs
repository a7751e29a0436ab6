//! The stamps of log lines, read from bytes by hand. In: the beginning of a text. Out: the stamp and its length; and,
//! with a clock, the time it means. To add a layout: a function, and a line in [`LAYOUTS`].
//!
//! It never fails on nonsense: what is no stamp is `None`, and no time is later than the clock's.

use jiff::civil::DateTime;

use super::Clock;
use super::bytes::run_of;
use crate::time::Timestamp;

/// A stamp as it stands in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stamp {
    /// It names the moment by itself.
    Instant(Timestamp),
    Civil(Civil),
}

/// Calendar date and time of day, checked by [`Stamp::resolve`] only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Civil {
    /// `None`: the latest year that does not make it lie in the future.
    pub(crate) year: Option<u16>,
    pub(crate) month: u8,
    pub(crate) day: u8,
    pub(crate) hour: u8,
    pub(crate) minute: u8,
    /// 60 in a leap second, which counts as 59.
    pub(crate) second: u8,
    pub(crate) micros: u32,
    /// Seconds east of UTC. `None`: in the clock's zone.
    pub(crate) offset: Option<i32>,
}

/// How far a year-less stamp may lie ahead before it is taken for last year's: other hosts' clocks are not ours.
const SLACK_MICROS: i64 = 86_400 * 1_000_000;

/// A year-less 29 February is looked for this many years back (1896 to 1904 is the longest gap of leap years).
const YEARS_BACK: u16 = 8;

impl Stamp {
    /// The moment it means, never later than `clock.now`. `None` when there is no such date.
    pub(crate) fn resolve(&self, clock: &Clock) -> Option<Timestamp> {
        let time = match self {
            Stamp::Instant(time) => *time,
            Stamp::Civil(civil) => civil.resolve(clock)?,
        };
        Some(time.min(clock.now))
    }
}

/// Turns the stamps of a block into times. What the calendar said of the last minute is kept: most lines are of the same
/// one, and no zone has changed within a minute since 1972.
pub(super) struct Times<'c> {
    clock: &'c Clock,
    /// A minute of the calendar, and when it begins.
    last: Option<(Civil, Timestamp)>,
}

impl<'c> Times<'c> {
    pub(super) fn new(clock: &'c Clock) -> Times<'c> {
        Times { clock, last: None }
    }

    /// As [`Stamp::resolve`]; now, where there is no stamp or no such date.
    pub(super) fn or_now(&mut self, stamp: Option<Stamp>) -> Timestamp {
        let time = match stamp {
            Some(Stamp::Civil(civil)) => self.civil(civil),
            Some(Stamp::Instant(time)) => Some(time),
            None => None,
        };
        time.map_or(self.clock.now, |time| time.min(self.clock.now))
    }

    fn civil(&mut self, civil: Civil) -> Option<Timestamp> {
        let minute = Civil { second: 0, micros: 0, ..civil };
        let start = match self.last {
            Some((last, start)) if last == minute => start,
            _ => {
                let start = minute.resolve(self.clock)?;
                // Without a year, the second may decide which one is meant.
                if civil.year.is_none() && start.as_micros() > self.clock.now.as_micros() {
                    return civil.resolve(self.clock);
                }
                self.last = Some((minute, start));
                start
            }
        };
        let second = i64::from(civil.second.min(59));
        Some(Timestamp::from_micros(start.as_micros() + second * 1_000_000 + i64::from(civil.micros)))
    }
}

impl Civil {
    fn resolve(&self, clock: &Clock) -> Option<Timestamp> {
        if let Some(year) = self.year {
            return self.in_year(year, clock);
        }
        let horizon = Timestamp::from_micros(clock.now.as_micros().saturating_add(SLACK_MICROS));
        let latest = year_of(horizon)?;
        let years = (latest.saturating_sub(YEARS_BACK)..=latest.saturating_add(1)).rev();
        years.filter_map(|year| self.in_year(year, clock)).find(|time| *time <= horizon)
    }

    fn in_year(&self, year: u16, clock: &Clock) -> Option<Timestamp> {
        let (year, month, day) = (i16::try_from(year).ok()?, self.month.cast_signed(), self.day.cast_signed());
        let (hour, minute) = (self.hour.cast_signed(), self.minute.cast_signed());
        let nanos = i32::try_from(self.micros).ok()?.checked_mul(1000)?;
        let civil = DateTime::new(year, month, day, hour, minute, self.second.min(59).cast_signed(), nanos).ok()?;
        let instant = match self.offset {
            Some(seconds) => jiff::tz::Offset::from_seconds(seconds).ok()?.to_timestamp(civil).ok()?,
            None => clock.zone.to_timestamp(civil).ok()?,
        };
        Some(Timestamp::from_micros(instant.as_microsecond()))
    }
}

fn year_of(time: Timestamp) -> Option<u16> {
    let instant = jiff::Timestamp::from_second(time.as_secs()).ok()?;
    u16::try_from(jiff::tz::Offset::UTC.to_datetime(instant).year()).ok()
}

/// The layouts, each tried in turn on texts that begin with a digit.
const LAYOUTS: [fn(&mut Reader<'_>) -> Option<Stamp>; 7] =
    [iso, common_log, numbers_first, compact, short_iso, epoch, month_and_day];

/// The stamp at the very beginning of the text, and its length: also in brackets, and after a weekday.
pub(crate) fn leading(text: &[u8]) -> Option<(Stamp, usize)> {
    if let Some(inside) = text.strip_prefix(b"[") {
        let (stamp, length) = leading_bare(inside)?;
        return (inside.get(length) == Some(&b']')).then_some((stamp, length + 2));
    }
    leading_bare(text)
}

fn leading_bare(text: &[u8]) -> Option<(Stamp, usize)> {
    if let Some(stamp) = traditional(text) {
        return Some((stamp, TRADITIONAL));
    }
    let first = text.first()?;
    match first {
        b'0'..=b'9' => LAYOUTS.iter().find_map(|layout| attempt(text, *layout)),
        b'@' => attempt(text, tai64n),
        b'd' if text.starts_with(b"date=") => attempt(text, date_and_time_fields),
        first if first.is_ascii_alphabetic() && may_name_time(text) => {
            NAMES_FIRST.iter().find_map(|layout| attempt(text, *layout)).or_else(|| field(text))
        }
        _ => None,
    }
}

/// Length of a stamp as most syslog daemons write it.
const TRADITIONAL: usize = 15;

/// `Nov 21 01:30:00` before the name of a host: the short way to what [`month_first`] reads. What may be more of the
/// stamp, such as a year or a zone, begins otherwise than that name.
fn traditional(text: &[u8]) -> Option<Stamp> {
    let (stamp, [b' ', b'a'..=b'z', ..]) = text.split_first_chunk::<TRADITIONAL>()? else { return None };
    let [m, o, n, b' ', tens, ones, b' ', h1, h2, b':', m1, m2, b':', s1, s2] = *stamp else { return None };
    let two = |tens: u8, ones: u8| {
        let both = tens.is_ascii_digit() && ones.is_ascii_digit();
        both.then(|| (tens - b'0') * 10 + (ones - b'0'))
    };
    let month = month_of([m, o, n])?;
    let day = two(if tens == b' ' { b'0' } else { tens }, ones)?;
    let (hour, minute, second) = (two(h1, h2)?, two(m1, m2)?, two(s1, s2)?);
    let sound = hour < 24 && minute < 60 && second <= 60;
    sound.then_some(Stamp::Civil(Civil { month, day, hour, minute, second, ..Civil::default() }))
}

/// The number of a month by the first three letters of its name.
fn month_of(name: [u8; 3]) -> Option<u8> {
    /// All letters small, as one number; no other byte becomes a letter by it.
    const fn folded([a, b, c]: [u8; 3]) -> u32 {
        u32::from_le_bytes([a | 0x20, b | 0x20, c | 0x20, 0])
    }
    #[rustfmt::skip]
    const MONTHS: [u32; 12] = [
        folded(*b"jan"), folded(*b"feb"), folded(*b"mar"), folded(*b"apr"), folded(*b"may"), folded(*b"jun"),
        folded(*b"jul"), folded(*b"aug"), folded(*b"sep"), folded(*b"oct"), folded(*b"nov"), folded(*b"dec"),
    ];
    let name = folded(name);
    (1..).zip(MONTHS).find_map(|(number, month)| (month == name).then_some(number))
}

/// Whether these are the first three letters of a day of the week.
fn is_weekday(name: [u8; 3]) -> bool {
    const DAYS: [&[u8; 3]; 7] = [b"mon", b"tue", b"wed", b"thu", b"fri", b"sat", b"sun"];
    DAYS.contains(&&name.map(|letter| letter.to_ascii_lowercase()))
}

/// Whether a text that begins as words do may begin with a stamp: most messages are none.
fn may_name_time(text: &[u8]) -> bool {
    let is_word = text.get(1).is_some_and(u8::is_ascii_lowercase);
    let named = |name: &[u8; 3]| month_of(*name).is_some() || is_weekday(*name);
    !is_word || text.first_chunk().is_some_and(named) || FIELDS.iter().any(|name| text.starts_with(name))
}

/// Layouts that begin with letters.
const NAMES_FIRST: [fn(&mut Reader<'_>) -> Option<Stamp>; 4] = [month_first, mail_date, zone_first, level_first];

/// The names of a field that holds the stamp.
const FIELDS: [&[u8]; 3] = [b"t=", b"ts=", b"time="];

/// `t=2026-11-21T01:30:00+0100`, `time="2026-11-21T01:30:00Z"`, as programs write their fields.
fn field(text: &[u8]) -> Option<(Stamp, usize)> {
    let value = FIELDS.iter().find_map(|name| text.strip_prefix(*name))?;
    let before = text.len() - value.len();
    let Some(quoted) = value.strip_prefix(b"\"") else {
        return leading_bare(value).map(|(stamp, length)| (stamp, before + length));
    };
    let (stamp, length) = leading_bare(quoted)?;
    (quoted.get(length) == Some(&b'"')).then_some((stamp, before + length + 2))
}

fn attempt(text: &[u8], layout: fn(&mut Reader<'_>) -> Option<Stamp>) -> Option<(Stamp, usize)> {
    let mut reader = Reader { text, at: 0 };
    let stamp = layout(&mut reader)?;
    let ends = reader.peek().is_none_or(|next| !next.is_ascii_alphanumeric());
    ends.then_some((stamp, reader.at))
}

/// The first stamp of the common log format, `[21/Nov/2026:01:30:00 +0100]`, in brackets anywhere in the text.
pub(crate) fn bracketed_common_log(text: &[u8]) -> Option<Stamp> {
    memchr::memchr_iter(b'[', text)
        .take(4)
        .find_map(|open| attempt(text.get(open + 1..)?, common_log))
        .map(|found| found.0)
}

/// `Nov 21 01:30:00`, with a year before or after the time, after a weekday or not.
fn month_first(reader: &mut Reader<'_>) -> Option<Stamp> {
    let mut month = reader.month();
    if month.is_none() {
        reader.weekday()?;
        month = reader.month();
    }
    let month = month?;
    if reader.byte(b'-') {
        return month_first_dashed(reader, month);
    }
    reader.blanks()?;
    let day = reader.number(1, 2)?;
    reader.byte(b',');
    reader.blanks()?;
    let mut civil = Civil { month, day: u8::try_from(day).ok()?, ..Civil::default() };
    if reader.digits() == 4 {
        civil.year = Some(reader.year()?);
        reader.byte(b',');
        reader.blanks()?;
    }
    reader.time(&mut civil)?;
    if civil.year.is_none() {
        civil.offset = reader.zone_before_year();
        civil.year = reader.trailing_year();
    }
    Some(Stamp::Civil(civil))
}

/// The rest of `Nov-21-26 01:30:00`.
fn month_first_dashed(reader: &mut Reader<'_>, month: u8) -> Option<Stamp> {
    let day = reader.two()?;
    reader.expect(b'-')?;
    let year = Some(reader.short_or_long_year()?);
    reader.blanks()?;
    let mut civil = Civil { year, month, day, ..Civil::default() };
    reader.time(&mut civil)?;
    Some(Stamp::Civil(civil))
}

/// `Sat, 21 Nov 2026 01:30:00 +0100` (RFC 5322).
fn mail_date(reader: &mut Reader<'_>) -> Option<Stamp> {
    reader.weekday()?;
    common_log(reader)
}

/// `CET Nov 21 01:30:00`.
fn zone_first(reader: &mut Reader<'_>) -> Option<Stamp> {
    let zone = reader.zone_letters()?;
    reader.blanks()?;
    match month_first(reader)? {
        Stamp::Civil(civil) => Some(Stamp::Civil(Civil { offset: zone.offset(), ..civil })),
        instant @ Stamp::Instant(_) => Some(instant),
    }
}

/// `W1121 01:30:00.123456`, month and day behind the letter of a severity (glog).
fn level_first(reader: &mut Reader<'_>) -> Option<Stamp> {
    reader.one_of(b"IWEF")?;
    if reader.digits() != 4 {
        return None;
    }
    let (month, day) = (reader.two()?, reader.two()?);
    reader.blanks()?;
    let mut civil = Civil { month, day, ..Civil::default() };
    reader.time(&mut civil)?;
    Some(Stamp::Civil(civil))
}

/// `2026-11-21T01:30:00.123456+01:00`, `2026-11-21 01:30:00,123`, `2026/11/21 - 01:30:00`, `2026:11:21-01:30:00`.
fn iso(reader: &mut Reader<'_>) -> Option<Stamp> {
    let year = reader.year()?;
    let separator = reader.one_of(b"-/.:")?;
    let month = reader.two()?;
    reader.expect(separator)?;
    let day = reader.two()?;
    if !reader.text_ahead(b" - ") {
        reader.one_of(b"T t_:-")?;
        reader.blanks();
    }
    let mut civil = Civil { year: Some(year), month, day, ..Civil::default() };
    reader.time(&mut civil)?;
    civil.offset = reader.offset();
    Some(Stamp::Civil(civil))
}

/// `21/Nov/2026:01:30:00 +0100`, also with dashes or blanks, or with a longer month (`02/sept./2026:…`).
fn common_log(reader: &mut Reader<'_>) -> Option<Stamp> {
    let day = u8::try_from(reader.number(1, 2)?).ok()?;
    let separator = reader.one_of(b"/- ")?;
    let month = reader.month()?;
    reader.rest_of_month();
    reader.expect(separator)?;
    let year = Some(reader.year()?);
    reader.one_of(b": ")?;
    let mut civil = Civil { year, month, day, ..Civil::default() };
    reader.time(&mut civil)?;
    civil.offset = reader.offset();
    Some(Stamp::Civil(civil))
}

/// `11/21/2026 01:30:00` (month first, unless that cannot be), `11/21/26-01:30:00`, `21.11.2026 01:30:00`,
/// `21-11-2026 - 01:30:00`.
fn numbers_first(reader: &mut Reader<'_>) -> Option<Stamp> {
    let first = u8::try_from(reader.number(1, 2)?).ok()?;
    let separator = reader.one_of(b"/.-")?;
    let second = u8::try_from(reader.number(1, 2)?).ok()?;
    reader.expect(separator)?;
    let year = Some(reader.short_or_long_year()?);
    if !reader.text_ahead(b" - ") {
        reader.one_of(b" :,T-")?;
        reader.blanks();
    }
    let (month, day) = if separator == b'/' && first <= 12 { (first, second) } else { (second, first) };
    let mut civil = Civil { year, month, day, ..Civil::default() };
    reader.time(&mut civil)?;
    civil.offset = reader.offset();
    Some(Stamp::Civil(civil))
}

/// `20261121 01:30:00`, `20261121T013000Z`, `20261121013000`.
fn compact(reader: &mut Reader<'_>) -> Option<Stamp> {
    let digits = reader.digits();
    if digits != 8 && digits != 14 {
        return None;
    }
    let (year, month, day) = (Some(reader.year()?), reader.two()?, reader.two()?);
    if digits == 8 {
        reader.one_of(b" T:-")?;
    }
    let mut civil = Civil { year, month, day, ..Civil::default() };
    reader.time(&mut civil)?;
    civil.offset = reader.offset();
    Some(Stamp::Civil(civil))
}

/// `261121  1:30:00`, as old database servers write it.
fn short_iso(reader: &mut Reader<'_>) -> Option<Stamp> {
    if reader.digits() != 6 {
        return None;
    }
    let (year, month, day) = (reader.two()?, reader.two()?, reader.two()?);
    reader.blanks()?;
    let mut civil = Civil { year: Some(2000 + u16::from(year)), month, day, ..Civil::default() };
    reader.time(&mut civil)?;
    Some(Stamp::Civil(civil))
}

/// `11-21 01:30:00`, `11/21-01:30:00.123456`, without a year.
fn month_and_day(reader: &mut Reader<'_>) -> Option<Stamp> {
    let month = reader.two()?;
    reader.one_of(b"-/")?;
    let day = reader.two()?;
    if !reader.byte(b'-') {
        reader.blanks()?;
    }
    let mut civil = Civil { month, day, ..Civil::default() };
    reader.time(&mut civil)?;
    Some(Stamp::Civil(civil))
}

/// `date=2026-11-21 time=01:30:00`, as firewalls write their fields.
fn date_and_time_fields(reader: &mut Reader<'_>) -> Option<Stamp> {
    reader.text_ahead(b"date=").then_some(())?;
    let year = Some(reader.year()?);
    reader.expect(b'-')?;
    let month = reader.two()?;
    reader.expect(b'-')?;
    let mut civil = Civil { year, month, day: reader.two()?, ..Civil::default() };
    reader.text_ahead(b" time=").then_some(())?;
    reader.time(&mut civil)?;
    Some(Stamp::Civil(civil))
}

/// `@400000006a1b2c3d12345678`: seconds since 1970 and 2^62, then nanoseconds, in hexadecimal (TAI64N, as multilog
/// writes it, 10 seconds ahead of UTC).
fn tai64n(reader: &mut Reader<'_>) -> Option<Stamp> {
    const EPOCH: u64 = (1 << 62) + 10;
    reader.expect(b'@')?;
    let seconds = i64::try_from(reader.hexadecimal(16)?.checked_sub(EPOCH)?).ok()?;
    let nanos = i64::try_from(reader.hexadecimal(8)?).ok()?;
    Some(Stamp::Instant(Timestamp::from_micros(seconds.checked_mul(1_000_000)?.checked_add(nanos / 1000)?)))
}

/// `1795224600`, `1795224600.123`, `1795224600123`: seconds, milliseconds or microseconds since 1970, from September
/// 2001 on.
fn epoch(reader: &mut Reader<'_>) -> Option<Stamp> {
    let digits = reader.digits();
    let scale = match digits {
        10 => 1_000_000,
        13 => 1000,
        16 => 1,
        _ => return None,
    };
    let micros = i64::try_from(reader.long(digits)?).ok()?.checked_mul(scale)?;
    Some(Stamp::Instant(Timestamp::from_micros(micros.checked_add(i64::from(reader.fraction()))?)))
}

/// A zone by its letters.
#[derive(Clone, Copy)]
enum Zone {
    Utc,
    /// Letters do not name other zones uniquely: taken for the clock's own.
    Clocks,
}

impl Zone {
    fn offset(self) -> Option<i32> {
        matches!(self, Zone::Utc).then_some(0)
    }
}

/// A place in a text that moves on as things are read. What fails may have moved it: a layout then is given up.
struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn byte(&mut self, wanted: u8) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, wanted: u8) -> Option<()> {
        self.byte(wanted).then_some(())
    }

    fn one_of(&mut self, wanted: &[u8]) -> Option<u8> {
        let found = self.peek().filter(|byte| wanted.contains(byte))?;
        self.at += 1;
        Some(found)
    }

    /// Moves behind the text, if it comes next; whether it did.
    fn text_ahead(&mut self, wanted: &[u8]) -> bool {
        let found = self.text.get(self.at..).is_some_and(|rest| rest.starts_with(wanted));
        self.at += if found { wanted.len() } else { 0 };
        found
    }

    fn hexadecimal(&mut self, digits: usize) -> Option<u64> {
        let text = self.text.get(self.at..self.at.checked_add(digits)?)?;
        let value = |byte: &u8| char::from(*byte).to_digit(16);
        self.at += digits;
        text.iter().try_fold(0u64, |sum, byte| Some(sum << 4 | u64::from(value(byte)?)))
    }

    /// What follows the first three letters of a month: `ember`, `t.`.
    fn rest_of_month(&mut self) {
        let text = self.text.get(self.at..).unwrap_or_default();
        self.at += text.iter().take(6).take_while(|byte| byte.is_ascii_lowercase()).count();
        self.byte(b'.');
    }

    /// One blank or more, at most four.
    fn blanks(&mut self) -> Option<()> {
        self.expect(b' ')?;
        for _ in 0..3 {
            self.byte(b' ');
        }
        Some(())
    }

    /// How many digits come next, at most 20.
    fn digits(&self) -> usize {
        run_of(self.text.get(self.at..).unwrap_or_default(), 20, |byte| byte.is_ascii_digit())
    }

    /// Exactly so many digits, of which there may be more behind.
    fn long(&mut self, digits: usize) -> Option<u64> {
        let text = self.text.get(self.at..self.at.checked_add(digits)?)?;
        let mut number = 0u64;
        for byte in text {
            number = number.checked_mul(10)?.checked_add(u64::from(byte.is_ascii_digit().then(|| byte - b'0')?))?;
        }
        self.at += digits;
        Some(number)
    }

    fn number(&mut self, least: usize, most: usize) -> Option<u16> {
        let digits = self.digits();
        if !(least..=most).contains(&digits) {
            return None;
        }
        u16::try_from(self.long(digits)?).ok()
    }

    fn two(&mut self) -> Option<u8> {
        u8::try_from(self.long(2)?).ok()
    }

    fn year(&mut self) -> Option<u16> {
        u16::try_from(self.long(4)?).ok().filter(|year| (1970..=9998).contains(year))
    }

    /// `2026`, or `26` of this century.
    fn short_or_long_year(&mut self) -> Option<u16> {
        if self.digits() == 2 { Some(2000 + u16::from(self.two()?)) } else { self.year() }
    }

    /// ` 2026` after the time of day, as some write it; it must not be the beginning of something longer.
    fn trailing_year(&mut self) -> Option<u16> {
        let mut ahead = Reader { text: self.text, at: self.at };
        ahead.expect(b' ')?;
        let year = if ahead.digits() == 4 { ahead.year()? } else { return None };
        if !matches!(ahead.peek(), None | Some(b' ' | b']' | b':' | b',')) {
            return None;
        }
        self.at = ahead.at;
        Some(year)
    }

    fn month(&mut self) -> Option<u8> {
        let month = month_of(*self.text.get(self.at..)?.first_chunk()?)?;
        self.at += 3;
        Some(month)
    }

    /// `Sat `, `Sat, `.
    fn weekday(&mut self) -> Option<()> {
        is_weekday(*self.text.get(self.at..)?.first_chunk()?).then_some(())?;
        self.at += 3;
        self.byte(b',');
        self.blanks()
    }

    /// `01:30:00`, `1:30:00.123456`, `01:30:00,123`, `8:34:08 PM`, `013000`.
    fn time(&mut self, civil: &mut Civil) -> Option<()> {
        if self.digits() == 6 {
            (civil.hour, civil.minute, civil.second) = (self.two()?, self.two()?, self.two()?);
        } else {
            civil.hour = u8::try_from(self.number(1, 2)?).ok()?;
            self.expect(b':')?;
            civil.minute = self.two()?;
            self.expect(b':')?;
            civil.second = self.two()?;
        }
        civil.micros = self.fraction();
        self.half_of_day(civil);
        (civil.hour < 24 && civil.minute < 60 && civil.second <= 60).then_some(())
    }

    /// ` PM`, also behind the narrow blank U+202F that Java writes. Behind a stamp without a year stands the host
    /// (RFC 3164), which may be called `am`; and what goes on is a name such as `amsterdam`.
    fn half_of_day(&mut self, civil: &mut Civil) {
        let rest = self.text.get(self.at..).unwrap_or_default();
        if civil.year.is_none() || !(1..=12).contains(&civil.hour) {
            return;
        }
        let (half, length) = match rest {
            [b' ', half, b'M' | b'm', ..] => (half.to_ascii_lowercase(), 3),
            [0xe2, 0x80, 0xaf, half, b'M' | b'm', ..] => (half.to_ascii_lowercase(), 5),
            _ => return,
        };
        if rest.get(length).is_some_and(|next| next.is_ascii_alphanumeric() || b"-._".contains(next)) {
            return;
        }
        match half {
            b'a' => civil.hour %= 12,
            b'p' => civil.hour = civil.hour % 12 + 12,
            _ => return,
        }
        self.at += length;
    }

    /// ` CET` between time and year, as `date` writes it; the offset where it is certain.
    fn zone_before_year(&mut self) -> Option<i32> {
        let mut ahead = Reader { text: self.text, at: self.at };
        let offset = ahead.zone_name()?.offset();
        let mut year = Reader { text: self.text, at: ahead.at };
        year.trailing_year()?;
        self.at = ahead.at;
        offset
    }

    /// As [`Reader::zone_letters`], behind a blank.
    fn zone_name(&mut self) -> Option<Zone> {
        self.expect(b' ')?;
        self.zone_letters()
    }

    /// `UTC`: the offset is certain; `CET`: taken for the clock's own.
    fn zone_letters(&mut self) -> Option<Zone> {
        const UTC: [&[u8]; 2] = [b"UTC", b"GMT"];
        const OTHERS: [&[u8]; 24] = [
            b"CEST", b"CET", b"EEST", b"EET", b"MSK", b"WEST", b"WET", b"BST", b"IST", b"EST", b"EDT", b"CST", b"CDT",
            b"MST", b"MDT", b"PST", b"PDT", b"JST", b"KST", b"HKT", b"AEST", b"AEDT", b"NZST", b"NZDT",
        ];
        let word = self.text.get(self.at..)?;
        let length = word.iter().take(5).take_while(|byte| byte.is_ascii_uppercase()).count();
        let ends = word.get(length).is_none_or(|next| !next.is_ascii_alphanumeric());
        let name = word.get(..length).filter(|_| ends)?;
        self.at += length;
        if UTC.contains(&name) {
            return Some(Zone::Utc);
        }
        OTHERS.contains(&name).then_some(Zone::Clocks)
    }

    /// `.123456` or `,123` in microseconds; 0 when there is none. Digits beyond the sixth are dropped.
    fn fraction(&mut self) -> u32 {
        let start = self.at;
        if self.one_of(b".,").is_none() || self.digits() == 0 {
            self.at = start;
            return 0;
        }
        let digits = self.digits();
        let text = self.text.get(self.at..).unwrap_or_default();
        let padded = text.iter().take(digits).copied().chain(std::iter::repeat(b'0')).take(6);
        self.at += digits;
        padded.fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'))
    }

    /// `Z`, `+01:00`, ` +0100`, `+01`, ` UTC`. Nothing is read when there is no offset.
    fn offset(&mut self) -> Option<i32> {
        let mut ahead = Reader { text: self.text, at: self.at };
        if let Some(zone) = ahead.zone_name() {
            self.at = ahead.at;
            return zone.offset();
        }
        ahead = Reader { text: self.text, at: self.at };
        if ahead.byte(b'Z') || ahead.byte(b'z') {
            self.at = ahead.at;
            return Some(0);
        }
        ahead.byte(b' ');
        let sign = if ahead.one_of(b"+-")? == b'-' { -1 } else { 1 };
        let hours = i32::from(ahead.two()?);
        let colon = ahead.byte(b':');
        let minutes = if colon || ahead.digits() == 2 { i32::from(ahead.two()?) } else { 0 };
        self.at = ahead.at;
        (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock() -> Clock {
        let zone = jiff::tz::TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        Clock { now: "2026-11-21T12:00:00Z".parse().unwrap(), zone }
    }

    fn read(text: &str) -> Option<(String, usize)> {
        let (stamp, length) = leading(text.as_bytes())?;
        Some((stamp.resolve(&clock())?.to_string(), length))
    }

    #[test]
    fn every_layout_is_read_in_the_zone_it_names_or_the_clocks() {
        for text in [
            "Nov 21 01:30:00",
            "nov 21 2026 01:30:00",
            "Nov 21, 2026 1:30:00 AM",
            "Sat Nov 21 01:30:00 2026",
            "2026-11-21T00:30:00.123456+00:00",
            "2026-11-21T00:30:00Z",
            "2026-11-21 01:30:00,123",
            "2026/11/21 01:30:00",
            "[2026-11-21 01:30:00]",
            "21/Nov/2026:01:30:00 +0100",
            "11/21/2026 01:30:00",
            "21.11.2026 01:30:00",
            "20261121 01:30:00",
            "261121  1:30:00",
            "1795221000",
            "1795221000.123",
            "1795221000123",
            "[1795221000.123]",
            "1795221000123456",
            "2026:11:21-01:30:00",
            "2026/11/21 - 01:30:00",
            "[2026-11-21 00:30:00 UTC]",
            "2026-11-21 01:30:00.123 CET",
            "[2026-11-21 01:30:00 +01:00]",
            "Sat Nov 21 01:30:00 CET 2026",
            "Sat Nov 21 00:30:00 UTC 2026",
            "Sat, 21 Nov 2026 01:30:00 +0100",
            "Nov 21, 2026, 1:30:00\u{202f}AM",
            "11-21 01:30:00.123456",
            "20261121013000",
            "20261121-01:30:00",
            "date=2026-11-21 time=01:30:00",
            "@400000006b00e612075bca00",
            "21-Nov-2026 01:30:00.123",
            "21/nov./2026:01:30:00 +0100",
            "21-11-2026 01:30:00 +0100",
            "11/21/2026 - 01:30:00",
            "Nov-21-26 01:30:00",
            "11/21/26-01:30:00.123456",
            "11/21-01:30:00.123456",
            "[CET Nov 21 01:30:00]",
            "UTC Nov 21 00:30:00",
            "W1121 01:30:00.123456",
            "t=2026-11-21T01:30:00+0100",
            "ts=1795221000.123",
            "time=\"2026-11-21T00:30:00Z\"",
        ] {
            assert_eq!(read(text), Some(("2026-11-21T00:30:00Z".to_owned(), text.len())), "{text}");
        }
    }

    #[test]
    fn a_stamp_without_a_year_is_the_latest_one_that_is_not_in_the_future() {
        assert_eq!(read("Nov 23 01:30:00 x").unwrap().0, "2025-11-23T00:30:00Z");
        assert_eq!(read("Nov 22 01:30:00 x").unwrap().0, "2026-11-21T12:00:00Z");
        assert_eq!(read("Feb 29 01:30:00 x").unwrap().0, "2024-02-29T00:30:00Z");
        let new_year = Clock { now: "2026-12-31T23:30:00Z".parse().unwrap(), ..clock() };
        let (stamp, _) = leading(b"Jan  1 00:29:00").unwrap();
        assert_eq!(stamp.resolve(&new_year).unwrap().to_string(), "2026-12-31T23:29:00Z");
    }

    #[test]
    fn a_host_whose_name_begins_like_a_half_of_the_day_is_no_part_of_the_stamp() {
        for (line, length) in [
            ("Nov 21 01:30:00 amsterdam sshd[1]: x", 15),
            ("Nov 21 01:30:00 pm1 sshd[1]: x", 15),
            ("Nov 21 01:30:00 am sshd[1]: x", 15),
            ("2026-11-21 01:30:00 pm-2 sshd[1]: x", 19),
        ] {
            assert_eq!(read(line), Some(("2026-11-21T00:30:00Z".to_owned(), length)), "{line}");
        }
    }

    #[test]
    fn a_time_after_now_is_now() {
        assert_eq!(read("2030-01-01T00:00:00Z").unwrap().0, "2026-11-21T12:00:00Z");
    }

    #[test]
    fn what_is_no_stamp_is_none() {
        for text in
            ["", "Nov", "Nov 21", "12345.678", "2026-13-41T01:02:03", "Nov 31 01:00:00", "[  123.456] x", "99:99:99"]
        {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn the_stamp_of_an_access_log_line_is_found_in_its_brackets() {
        let line = br#"192.0.2.1 - - [21/Nov/2026:01:30:00 +0100] "GET /[1] HTTP/1.1" 401 9"#;
        let time = bracketed_common_log(line).unwrap().resolve(&clock()).unwrap();
        assert_eq!(time.to_string(), "2026-11-21T00:30:00Z");
    }
}
