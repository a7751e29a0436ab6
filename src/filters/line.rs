//! One line, taken apart as far as some filter asks. In: a line out of its envelope, or a record. Out: the texts that
//! a filter's patterns are tried on, in turn: behind the header, behind the stamp, as a whole.

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;

use serde_json::Value;

use super::Record;
use super::envelope::Opened;
use super::file::{Filter, Format};
use super::json;
use super::netfilter::{PacketCell, strip_uptime};
use super::syslog::{self, Beginning, Header};
use super::timestamp::{self, Stamp};

/// Sources cut longer lines to this length; of a line that long nobody knows how it ended.
const CUT_AT: usize = 16 << 10;

/// A line while it is looked at; what was read of it is kept.
pub(super) struct Line<'a> {
    text: &'a [u8],
    whole: &'a [u8],
    /// From the envelope.
    outer: Option<Stamp>,
    /// The end may be missing.
    pub(super) cut: bool,
    /// Whether its program is known for certain, so that the text itself tells nothing of it.
    record: bool,
    /// How the header of a line before began.
    beginning: Option<&'a RefCell<Beginning>>,
    header: OnceCell<Option<Header<'a>>>,
    bare: OnceCell<Bare<'a>>,
    inner: OnceCell<Bare<'a>>,
    /// The first stamp in brackets.
    bracketed: OnceCell<Option<Stamp>>,
    /// What a kernel message tells of a packet.
    pub(super) packet: PacketCell<'a>,
    /// The texts that were read as JSON objects, and what those have.
    objects: RefCell<Vec<Read<'a>>>,
}

/// A text, and the JSON object that it is.
type Read<'a> = (&'a [u8], Option<Rc<Value>>);

/// A text and the stamp that stood before it.
#[derive(Clone, Copy)]
struct Bare<'a> {
    stamp: Option<Stamp>,
    text: &'a [u8],
}

/// A text to match, and what stood around it.
#[derive(Clone, Copy)]
pub(super) struct Message<'a> {
    pub(super) text: &'a [u8],
    pub(super) stamp: Option<Stamp>,
    pub(super) repeat: u32,
    pub(super) host: &'a [u8],
    /// The process id.
    pub(super) process: &'a [u8],
}

/// Most texts of one line that a pattern is tried on.
const MOST_VIEWS: u8 = 5;

impl<'a> Line<'a> {
    /// `length` is that of the line in its envelope.
    pub(super) fn new(opened: Opened<'a>, length: usize) -> Line<'a> {
        Line {
            text: opened.text,
            whole: opened.whole,
            outer: opened.stamp,
            cut: opened.torn || length >= CUT_AT,
            record: false,
            beginning: None,
            header: OnceCell::new(),
            bare: OnceCell::new(),
            inner: OnceCell::new(),
            bracketed: OnceCell::new(),
            packet: PacketCell::default(),
            objects: RefCell::default(),
        }
    }

    /// The same line, behind others of its log.
    pub(super) fn behind(self, beginning: &'a RefCell<Beginning>) -> Line<'a> {
        Line { beginning: Some(beginning), ..self }
    }

    fn header(&self) -> Option<&Header<'a>> {
        let read = || match self.beginning {
            Some(beginning) => beginning.borrow_mut().header(self.text),
            None => syslog::header(self.text),
        };
        self.header.get_or_init(read).as_ref()
    }

    /// The JSON object that a text of this line is.
    pub(super) fn object(&self, text: &'a [u8]) -> Option<Rc<Value>> {
        let mut objects = self.objects.borrow_mut();
        if let Some((_, object)) = objects.iter().find(|(known, _)| std::ptr::eq(*known, text)) {
            return object.clone();
        }
        let object = json::object(text).map(Rc::new);
        objects.push((text, object.clone()));
        object
    }

    /// A record: what a header would tell is known.
    pub(super) fn of_record(record: &Record<'a>, text: &'a [u8]) -> Line<'a> {
        let (program, process) = (record.program, record.process);
        let header = Header { stamp: None, host: b"", program, process, message: text, repeat: 1 };
        let opened = Opened { text, whole: text, stamp: None, torn: false, rewritten: false };
        Line { record: true, header: Some(header).into(), ..Line::new(opened, text.len()) }
    }

    /// Whose line it is; empty where it does not say.
    pub(super) fn host(&self) -> &'a [u8] {
        self.header().map_or(b"", |header| header.host)
    }

    /// The texts of a line that a filter matches on, the likeliest first. `None` when the program that wrote the line is
    /// for certain none of the filter's, so that no text of it is.
    pub(super) fn messages<'l>(&'l self, filter: &'l Filter) -> Option<impl Iterator<Item = Message<'a>> + Clone + 'l> {
        let first = self.view(filter, 0);
        let told = self.record || filter.format == Format::Syslog;
        let others = (1..MOST_VIEWS).filter_map(|view| self.view(filter, view));
        (first.is_some() || !told).then(|| first.into_iter().chain(others))
    }

    fn view(&self, filter: &Filter, view: u8) -> Option<Message<'a>> {
        let named = !filter.names.is_empty();
        if self.record {
            return self.view_of_record(filter, view);
        }
        match (filter.format, view) {
            (Format::Kernel, 0) => self.behind_header(filter).or_else(|| self.bare_kernel(filter)),
            (Format::Json, 0) if self.text.starts_with(b"{") => Some(self.message(None, self.text)),
            (Format::Json | Format::Plain, 0) | (Format::Clf, 1) if named => self.behind_header(filter),
            (Format::Json, 0) => Some(self.behind_stamp()).filter(|message| message.text.starts_with(b"{")),
            (Format::Syslog, 0) => self.behind_header(filter),
            (Format::Syslog, 1) => self.behind_both(filter),
            (Format::Clf, 0) => {
                let stamp = self.bracketed.get_or_init(|| timestamp::bracketed_common_log(self.text));
                Some(self.message(*stamp, self.text))
            }
            (Format::Plain, 1) if named => self.behind_both(filter),
            (Format::Plain, 2) => Some(self.behind_stamp()),
            (Format::Plain, 3) => self.behind_stamp().of_longer(self.text),
            (Format::Plain, 4) => self.message(None, self.text).of_longer(self.whole),
            _ => None,
        }
    }

    fn view_of_record(&self, filter: &Filter, view: u8) -> Option<Message<'a>> {
        match view {
            0 => self.behind_header(filter),
            1 if filter.format != Format::Kernel => self.behind_both(filter),
            _ => None,
        }
    }

    fn message(&self, stamp: Option<Stamp>, text: &'a [u8]) -> Message<'a> {
        Message { text, stamp: stamp.or(self.outer), repeat: 1, host: b"", process: b"" }
    }

    /// The message, if a program of the filter wrote it.
    fn behind_header(&self, filter: &Filter) -> Option<Message<'a>> {
        let header = self.header()?;
        let Header { stamp, host, process, message: text, repeat, .. } = *header;
        filter.accepts(header.program).then_some(Message { text, stamp: stamp.or(self.outer), repeat, host, process })
    }

    /// The same behind the stamp that the program wrote itself, if it did.
    fn behind_both(&self, filter: &Filter) -> Option<Message<'a>> {
        let message = self.behind_header(filter)?;
        let inner = self.inner.get_or_init(|| Bare::of(message.text));
        let stamp = Some(message.stamp.or(inner.stamp)?);
        inner.stamp.map(|_| Message { text: inner.text, stamp, ..message })
    }

    fn behind_stamp(&self) -> Message<'a> {
        let bare = self.bare.get_or_init(|| Bare::of(syslog::without_priority(self.text)));
        self.message(bare.stamp, bare.text)
    }

    /// A line of `dmesg`: its uptime and then the message, or a LOG prefix that the filter names at the very beginning.
    fn bare_kernel(&self, filter: &Filter) -> Option<Message<'a>> {
        let is_bare = strip_uptime(self.text).len() < self.text.len() || !filter.needs_prefix();
        is_bare.then(|| self.message(None, self.text))
    }
}

impl<'a> Message<'a> {
    /// The same with this text, of which the message was only the end; `None` where it was all.
    fn of_longer(self, text: &'a [u8]) -> Option<Message<'a>> {
        (self.text.len() < text.len()).then_some(Message { text, ..self })
    }
}

impl<'a> Bare<'a> {
    fn of(text: &'a [u8]) -> Bare<'a> {
        let (stamp, length) = timestamp::leading(text).map_or((None, 0), |(stamp, length)| (Some(stamp), length));
        Bare { stamp, text: syslog::skip_blanks(text.get(length..).unwrap_or_default()) }
    }
}
