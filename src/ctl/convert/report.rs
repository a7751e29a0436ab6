//! What became of each jail, key and pattern, for the person who has to stand by it.

use std::io;

use serde::Serialize;

use crate::ctl::output::{Output, Style, counted};
use crate::text::escape;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    TakenOver,
    Adapted,
    NeedsYou,
}

/// One line of the report.
#[derive(Debug, Serialize)]
struct Row {
    verdict: Verdict,
    /// `all jails` for what holds for all.
    jail: String,
    key: String,
    text: String,
}

/// The name under which settings for all jails are reported.
pub(super) const ALL: &str = "all jails";

#[derive(Debug, Default)]
pub(super) struct Report(Vec<Row>);

impl Report {
    pub(super) fn took(&mut self, jail: &str, key: &str, text: impl Into<String>) {
        self.add(Verdict::TakenOver, jail, key, text.into());
    }

    pub(super) fn adapted(&mut self, jail: &str, key: &str, text: impl Into<String>) {
        self.add(Verdict::Adapted, jail, key, text.into());
    }

    pub(super) fn needs_you(&mut self, jail: &str, key: &str, text: impl Into<String>) {
        self.add(Verdict::NeedsYou, jail, key, text.into());
    }

    fn add(&mut self, verdict: Verdict, jail: &str, key: &str, text: String) {
        let row = Row { verdict, jail: jail.to_owned(), key: key.to_owned(), text };
        // What holds for all jails is not said again of each.
        let same = |other: &Row| {
            (&other.key, &other.text) == (&row.key, &row.text) && (other.jail == ALL || other.jail == row.jail)
        };
        if !self.0.iter().any(same) {
            self.0.push(row);
        }
    }

    pub(super) fn print(&self, out: &mut Output, json: bool) -> io::Result<()> {
        if json {
            return self.0.iter().try_for_each(|row| out.json(row));
        }
        for (verdict, title, style) in [
            (Verdict::TakenOver, "Taken over", Style::Good),
            (Verdict::Adapted, "Adapted", Style::Warning),
            (Verdict::NeedsYou, "Needs you", Style::Bad),
        ] {
            let rows: Vec<&Row> = self.0.iter().filter(|row| row.verdict == verdict).collect();
            if rows.is_empty() {
                continue;
            }
            out.line(&out.styled(style, title))?;
            for Row { jail, key, text, .. } in rows {
                let mut indent = "  ";
                for line in out.wrap(&escape(&format!("{jail}, {key}: {text}")), 4) {
                    out.line(&format!("{indent}{line}"))?;
                    indent = "    ";
                }
            }
        }
        Ok(())
    }

    /// How much of it needs a person.
    pub(super) fn summary(&self) -> String {
        let count = self.0.iter().filter(|row| row.verdict == Verdict::NeedsYou).count();
        match count {
            0 => "nothing needs you".to_owned(),
            _ => format!("{} you", counted(count as u64, "thing needs", "things need")),
        }
    }
}
