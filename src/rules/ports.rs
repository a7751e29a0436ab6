//! Ports as rules name them: single ones and ranges, in order, none twice.

use std::fmt;

/// Ports and ranges of ports, ends included. Empty means that any port will do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ports(Vec<(u16, u16)>);

impl Ports {
    /// In order, overlapping and neighbouring ranges made one.
    pub(crate) fn of(mut ranges: Vec<(u16, u16)>) -> Ports {
        ranges.sort_unstable();
        let mut merged: Vec<(u16, u16)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) && (*end > first || first == *end) => {
                    *end = (*end).max(last);
                }
                _ => merged.push((first, last)),
            }
        }
        Ports(merged)
    }

    pub(crate) fn single(port: u16) -> Ports {
        Ports(vec![(port, port)])
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn ranges(&self) -> &[(u16, u16)] {
        &self.0
    }

    pub(crate) fn admit(&self, port: Option<u16>) -> bool {
        self.0.is_empty()
            || port.is_some_and(|port| self.0.iter().any(|(first, last)| (*first..=*last).contains(&port)))
    }

    /// The same ports in pieces of at most so many places; a range takes two, as in iptables' `multiport`.
    pub(crate) fn pieces(&self, most: usize) -> Vec<Ports> {
        let mut pieces: Vec<Ports> = Vec::new();
        let mut places = most;
        for range in &self.0 {
            let width = if range.0 == range.1 { 1 } else { 2 };
            if places + width > most {
                pieces.push(Ports::default());
                places = 0;
            }
            places += width;
            if let Some(piece) = pieces.last_mut() {
                piece.0.push(*range);
            }
        }
        if pieces.is_empty() { vec![Ports::default()] } else { pieces }
    }

    /// Written with these between the ends of a range and between ranges.
    pub(crate) fn written(&self, dash: &str, comma: &str) -> String {
        let one = |(first, last): &(u16, u16)| {
            if first == last { first.to_string() } else { format!("{first}{dash}{last}") }
        };
        self.0.iter().map(one).collect::<Vec<_>>().join(comma)
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written("-", ","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_ranges_become_one() {
        let ports = Ports::of(vec![(443, 443), (80, 80), (6881, 6889), (6885, 6999), (80, 80)]);
        assert_eq!(ports.to_string(), "80,443,6881-6999");
    }

    #[test]
    fn pieces_have_room_for_their_ranges() {
        let ports = Ports::of((0..20u16).map(|n| (n * 10, n * 10 + 1)).collect());
        let pieces = ports.pieces(15);
        assert_eq!(pieces.iter().map(|piece| piece.ranges().len()).collect::<Vec<_>>(), [7, 7, 6]);
        assert_eq!(Ports::default().pieces(15), [Ports::default()]);
    }
}
