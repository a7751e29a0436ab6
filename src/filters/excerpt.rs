//! Pieces of one text that many own together: the lines of a block's hits. One allocation for all of them, where one for
//! each would be made by the thread that reads and freed by the one that judges, and both would wait for each other.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

/// A piece of a text; the text lives as long as any piece of it.
#[derive(Clone, Default)]
pub(crate) struct Excerpt {
    /// `None` as long as the text is being written.
    of: Option<Arc<Vec<u8>>>,
    place: Range<usize>,
}

/// A text while it is written.
#[derive(Debug)]
pub(super) struct Excerpts {
    text: Vec<u8>,
    /// How long it may become, for all that is known.
    most: usize,
}

impl Excerpts {
    /// For pieces of a text of this length.
    pub(super) fn of(length: usize) -> Excerpts {
        Excerpts { text: Vec::new(), most: length }
    }

    /// Adds a piece, which is empty until [`Excerpts::share`] gives it the text.
    pub(super) fn add(&mut self, piece: &[u8]) -> Excerpt {
        let start = self.text.len();
        if start == 0 {
            // All at once, so that nothing is copied when it grows; what is not written to is not there yet.
            self.text.reserve_exact(self.most);
        }
        self.text.extend_from_slice(piece);
        Excerpt { of: None, place: start..self.text.len() }
    }

    /// Gives its pieces the text.
    pub(super) fn share<'e>(self, pieces: impl Iterator<Item = &'e mut Excerpt>) {
        let text = Arc::new(self.text);
        for piece in pieces {
            piece.of = Some(Arc::clone(&text));
        }
    }
}

impl Deref for Excerpt {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.of.as_ref().and_then(|text| text.get(self.place.clone())).unwrap_or_default()
    }
}

impl From<&[u8]> for Excerpt {
    fn from(text: &[u8]) -> Excerpt {
        Excerpt { of: Some(Arc::new(text.to_vec())), place: 0..text.len() }
    }
}

impl PartialEq for Excerpt {
    fn eq(&self, other: &Excerpt) -> bool {
        **self == **other
    }
}

impl Eq for Excerpt {}

impl fmt::Debug for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_have_their_text_once_it_is_shared() {
        let mut text = Excerpts::of(8);
        let mut pieces = [text.add(b"one"), text.add(b""), text.add(b"three")];
        assert_eq!(pieces[0], Excerpt::default());
        text.share(pieces.iter_mut());
        assert_eq!(pieces.each_ref().map(|piece| &**piece), [&b"one"[..], b"", b"three"]);
        assert_eq!(pieces[2], Excerpt::from(&b"three"[..]));
    }
}
