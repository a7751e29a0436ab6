//! Bans in the store: pages of some ten bans whose prefixes follow each other. A record for each ban would make a start with
//! a million of them slow; one record for all would make each ban slow.
//!
//! A page holds what lies between its own start and that of the next one. When it grows too long its later part becomes
//! pages of their own, which are written first: a crash in between leaves bans twice, and those behind the start of
//! the next page are not read.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::ops::Bound;

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

use super::bans::{Bans, Row};
use super::causes::Cause;
use super::records::Key;

/// Most bans of a page, but that all owners of a prefix are on the same one.
const MOST: usize = 64;

/// Bans that a page has after it was divided: room for those to come.
const DIVIDED: usize = 40;

/// Where each page starts, and which differ from what is written.
#[derive(Debug, Default)]
pub(super) struct Pages {
    starts: BTreeSet<IpNet>,
    touched: BTreeSet<IpNet>,
}

/// A page as it is written.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Page {
    pub(super) causes: Vec<Cause>,
    /// By prefix, then owner. The cause is an index.
    pub(super) bans: Vec<(IpNet, Row)>,
}

impl Pages {
    /// A ban of this prefix has changed.
    pub(super) fn touch(&mut self, prefix: &IpNet) {
        let start = self.starts.range(..=*prefix).next_back().copied().unwrap_or(first());
        self.touched.insert(start);
    }

    /// There is a page with this start. The start of the next one, of those that were restored so far.
    pub(super) fn restore(&mut self, start: IpNet) -> Option<IpNet> {
        self.starts.insert(start);
        self.starts.range((Bound::Excluded(start), Bound::Unbounded)).next().copied()
    }

    /// What is to be written: the keys of pages, and each anew or gone.
    pub(super) fn changed(&mut self, bans: &Bans) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        let mut changed = Vec::new();
        for start in std::mem::take(&mut self.touched) {
            let next = self.starts.range((Bound::Excluded(start), Bound::Unbounded)).next().copied();
            self.starts.remove(&start);
            let rows: Vec<(IpNet, Row)> = bans.rows_between(start, next).collect();
            if rows.is_empty() {
                changed.push((Key::Page(start).bytes(), None));
            }
            let (mut start, mut rest) = (start, rows.as_slice());
            while !rest.is_empty() {
                let most = if rest.len() > MOST { whole_prefixes(rest, DIVIDED) } else { rest.len() };
                let (rows, behind) = rest.split_at(most);
                self.starts.insert(start);
                changed.push((Key::Page(start).bytes(), Some(Page::of(rows.to_vec(), bans).bytes())));
                rest = behind;
                start = rest.first().map_or(start, |(prefix, _)| *prefix);
            }
        }
        changed
    }
}

impl Page {
    fn of(mut rows: Vec<(IpNet, Row)>, bans: &Bans) -> Page {
        let mut used = Vec::new();
        for (_, row) in &mut rows {
            let place = used.iter().position(|cause| *cause == row.cause).unwrap_or_else(|| {
                used.push(row.cause);
                used.len() - 1
            });
            row.cause = u32::try_from(place).expect("a page has few bans");
        }
        Page { causes: used.into_iter().map(|id| bans.cause(id).clone()).collect(), bans: rows }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("a page is made of numbers, texts and lists of them")
    }

    /// `None` when this is not a whole page.
    pub(super) fn read(bytes: &[u8]) -> Option<Page> {
        let (page, rest) = postcard::take_from_bytes::<Page>(bytes).ok()?;
        let known =
            |(prefix, row): &(IpNet, Row)| *prefix == prefix.trunc() && (row.cause as usize) < page.causes.len();
        (rest.is_empty() && page.bans.iter().all(known)).then_some(page)
    }
}

/// The first page starts before every prefix, and keeps its start.
fn first() -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0))
}

/// How many of these rows at most, from about `wanted` on, end where a prefix ends.
fn whole_prefixes(rows: &[(IpNet, Row)], wanted: usize) -> usize {
    let last = rows.get(wanted - 1).map(|(prefix, _)| *prefix);
    let more = rows.iter().skip(wanted).take_while(|(prefix, _)| Some(*prefix) == last).count();
    wanted + more
}
