//! Inputs from inputs: the same ones in every run, for a law that breaks must break again.

/// What parsers of all kinds look for, and what numbers overflow at.
const TRICKS: [&[u8]; 40] = [
    b"\0",
    b"\n",
    b"\r\n",
    b"\t",
    b" ",
    b"\"",
    b"\\",
    b"'",
    b"[",
    b"]",
    b"{",
    b"}",
    b"<",
    b">",
    b"%",
    b"#",
    b"=",
    b":",
    b"-",
    b"\xff",
    b"\xc3\x28",
    b"\xef\xbb\xbf",
    b"\xf0\x9f\x92\xa3",
    b"\x1b[31m",
    b"\\u0000",
    b"\\x0a",
    b"%(a)s",
    b"<HOST>",
    b"0",
    b"-1",
    b"255",
    b"256",
    b"65536",
    b"4294967296",
    b"18446744073709551616",
    b"9223372036854775807",
    b"1e999",
    b"::ffff:192.0.2.1",
    b"999.999.999.999",
    b"2001:db8::1%eth0",
];

/// Longest input, in bytes; lines are cut at 16 KiB.
const LONGEST: usize = 20 << 10;

/// A small generator of numbers (Marsaglia's xorshift), the same on every machine.
pub(super) struct Numbers(u64);

impl Numbers {
    pub(super) fn new(seed: u64) -> Numbers {
        Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Below `bound`; 0 where the bound is 0.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let bound = u64::try_from(bound.max(1)).expect("a length fits");
        usize::try_from(self.0 % bound).expect("it is below a length")
    }

    fn of<'t, T: ?Sized>(&mut self, all: &[&'t T]) -> &'t T {
        all[self.below(all.len())]
    }
}

/// One of the seeds after one to four changes.
pub(super) fn input(seeds: &[Vec<u8>], numbers: &mut Numbers) -> Vec<u8> {
    let mut data = seeds[numbers.below(seeds.len())].clone();
    for _ in 0..=numbers.below(4) {
        change(&mut data, seeds, numbers);
    }
    data.truncate(LONGEST);
    data
}

fn change(data: &mut Vec<u8>, seeds: &[Vec<u8>], numbers: &mut Numbers) {
    let at = numbers.below(data.len() + 1);
    let end = (at + numbers.below(16)).min(data.len());
    match numbers.below(9) {
        0 if at < data.len() => data[at] ^= 1 << numbers.below(8),
        1 => data.truncate(at),
        2 => drop(data.drain(..at)),
        3 => drop(data.drain(at..end)),
        4 => {
            let piece = data[at..end].to_vec();
            let times = 1 + numbers.below(200);
            data.splice(at..at, piece.repeat(times));
        }
        5 => {
            let other = &seeds[numbers.below(seeds.len())];
            let from = numbers.below(other.len() + 1);
            data.truncate(at);
            data.extend_from_slice(&other[from..]);
        }
        6 => {
            let other = &seeds[numbers.below(seeds.len())];
            let from = numbers.below(other.len() + 1);
            let until = (from + numbers.below(64)).min(other.len());
            data.splice(at..at, other[from..until].iter().copied());
        }
        7 => drop(data.splice(at..end, numbers.of(&TRICKS).iter().copied())),
        _ => drop(data.splice(at..at, numbers.of(&TRICKS).iter().copied())),
    }
}
