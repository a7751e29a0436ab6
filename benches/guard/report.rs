//! The table: on the terminal as it grows, and in a file, if one is wanted, as it stands in `docs/performance.md`.

use std::fs::{File, OpenOptions};
use std::io::Write;

pub(crate) struct Report {
    kept: Option<File>,
}

impl Report {
    /// `BENCH_OUT` names the file that is continued.
    pub(crate) fn open() -> Report {
        let kept = std::env::var_os("BENCH_OUT").filter(|path| !path.is_empty()).map(|path| {
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(&path)
                .expect("BENCH_OUT names a file that can be written")
        });
        Report { kept }
    }

    pub(crate) fn row(&mut self, what: &str, figure: &str, beside: &str) {
        println!("{what:<58} {figure:>16}  {beside}");
        if let Some(file) = &mut self.kept {
            writeln!(file, "| {what} | {figure} | {beside} |").expect("BENCH_OUT can be written");
        }
    }
}

/// The middle and the 99th of a hundred, in milliseconds.
pub(crate) fn median_and_p99(times: &mut [f64]) -> (f64, f64) {
    times.sort_by(f64::total_cmp);
    let at = |part: f64| times.get(((times.len() - 1) as f64 * part).round() as usize).copied().unwrap_or(f64::NAN);
    (at(0.5), at(0.99))
}

/// `2.31 M/s`, or `6.4 k/s`, of something.
pub(crate) fn rate(count: u64, seconds: f64) -> String {
    match count as f64 / seconds {
        few if few < 1e5 => format!("{:.1} k/s", few / 1e3),
        many => format!("{:.2} M/s", many / 1e6),
    }
}
