//! Text → the commands of iptables in it, each word with its place. Tolerant: what web pages did to a script is read
//! as it was meant, so that every mistake can be named at once.

use super::MAX_LINES;

/// A text, read.
#[derive(Debug, Default)]
pub(super) struct Source {
    /// Whether `iptables-save` wrote it.
    pub(super) is_save: bool,
    /// Of a saved text: the one that is being read.
    table: String,
    pub(super) commands: Vec<Command>,
}

/// One call of iptables, or one line of a saved table.
#[derive(Debug)]
pub(super) struct Command {
    /// As it was written: `/sbin/iptables`, `$IPT`; in a saved table empty.
    pub(super) tool: Option<Word>,
    pub(super) words: Vec<Word>,
    pub(super) ipv6: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    /// Without its quotes, dashes made plain.
    pub(super) text: String,
    pub(super) quoted: bool,
    pub(super) span: (usize, usize),
}

pub(super) fn read(text: &str) -> Source {
    let is_save = text.lines().map(str::trim).any(|line| line.starts_with('*') || line.starts_with(':'))
        && text.lines().any(|line| line.trim() == "COMMIT");
    let mut source = Source { is_save, ..Source::default() };
    let mut words = Vec::new();
    let mut offset = 0;
    for line in text.split_inclusive('\n').take(MAX_LINES) {
        let content = line.trim_end_matches(['\n', '\r']);
        // Web pages leave blanks behind the backslash.
        let joined = content.trim_end().strip_suffix('\\');
        for statement in statements(joined.unwrap_or(content), offset) {
            match statement {
                Token::Word(word) => words.push(word),
                Token::End => source.take(&mut words),
            }
        }
        offset += line.len();
        if joined.is_none() {
            source.take(&mut words);
        }
    }
    source.take(&mut words);
    source
}

impl Source {
    /// `*nat`, `:INPUT DROP [0:0]` or `-A INPUT …`, as the command that would do it.
    fn take_saved(&mut self, mut words: Vec<Word>) {
        let Some(first) = words.first().cloned() else { return };
        if let Some(table) = first.text.strip_prefix('*') {
            table.clone_into(&mut self.table);
            return;
        }
        if let Some(chain) = first.text.strip_prefix(':') {
            words[0] = Word { text: chain.to_owned(), ..first.clone() };
            words.truncate(2);
            let own = words.get(1).is_none_or(|policy| policy.text == "-");
            words.insert(0, Word { text: if own { "-N" } else { "-P" }.to_owned(), ..first.clone() });
        } else if !["-A", "-I", "-P"].contains(&first.text.as_str()) {
            return;
        }
        let named = |text: &str| Word { text: text.to_owned(), ..first.clone() };
        words.extend([named("-t"), named(&self.table)]);
        self.commands.push(Command { tool: None, words, ipv6: false });
    }

    fn take(&mut self, words: &mut Vec<Word>) {
        let words = std::mem::take(words);
        if self.is_save {
            self.take_saved(words);
            return;
        }
        let mut words = words.into_iter().peekable();
        while words.next_if(|word| PREFIXES.contains(&word.text.as_str())).is_some() {}
        let Some(tool) = words.next().filter(|word| is_tool(&word.text)) else { return };
        let ipv6 = tool.text.to_ascii_lowercase().contains('6');
        self.commands.push(Command { tool: Some(tool), words: words.collect(), ipv6 });
    }
}

/// What may stand before a command.
const PREFIXES: [&str; 8] = ["sudo", "exec", "then", "do", "else", "$", "if", "!"];

/// A path or a variable that can only be iptables.
fn is_tool(word: &str) -> bool {
    let name = word.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    let name = name.trim_start_matches('$').trim_matches(['{', '}', '"']);
    matches!(
        name,
        "iptables"
            | "ip6tables"
            | "ipt"
            | "ip6t"
            | "ipt6"
            | "ipt4"
            | "iptables_cmd"
            | "iptables-legacy"
            | "iptables-nft"
            | "ip6tables-legacy"
            | "ip6tables-nft"
    ) || name.starts_with("iptables-a")
        || name.starts_with("iptables-p") && !name.starts_with("iptables-persistent")
}

enum Token {
    Word(Word),
    /// `;`, `&&`, `|`: a statement ends.
    End,
}

/// The words of a line up to its comment.
fn statements(line: &str, offset: usize) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut chars = line.char_indices().peekable();
    while let Some(&(_, first)) = chars.peek() {
        if first.is_whitespace() {
            chars.next();
        } else if first == '#' {
            break;
        } else if matches!(first, ';' | '&' | '|') {
            chars.next();
            tokens.push(Token::End);
        } else {
            tokens.push(Token::Word(word(line, &mut chars, offset)));
        }
    }
    tokens
}

fn word(line: &str, chars: &mut std::iter::Peekable<std::str::CharIndices<'_>>, offset: usize) -> Word {
    let start = chars.peek().map_or(line.len(), |(at, _)| *at);
    let mut text = String::new();
    let mut quote: Option<char> = None;
    let mut quoted = false;
    let mut end = line.len();
    while let Some(&(at, letter)) = chars.peek() {
        match (quote, letter) {
            (Some(open), _) if closes(open, letter) => quote = None,
            (None, '"' | '\'' | '“' | '”' | '‘' | '’') => {
                quote = Some(letter);
                quoted = true;
            }
            (None, _) if letter.is_whitespace() || matches!(letter, ';' | '&' | '|') => {
                end = at;
                break;
            }
            _ => text.push(letter),
        }
        chars.next();
    }
    if text.starts_with(DASHES) {
        let rest = text.trim_start_matches(DASHES);
        let dashes = text.chars().count() - rest.chars().count();
        // A web page makes one long dash of two short ones before a long option.
        let long = dashes > 1 || rest.chars().count() > 1;
        text = format!("{}{rest}", if long { "--" } else { "-" });
    }
    Word { text, quoted, span: (offset + start, offset + end) }
}

fn closes(open: char, letter: char) -> bool {
    match open {
        '“' | '”' => matches!(letter, '“' | '”' | '"'),
        '‘' | '’' => matches!(letter, '‘' | '’' | '\''),
        _ => letter == open,
    }
}

/// Dashes that are none: hyphen, non-breaking hyphen, figure dash, en dash, em dash, bar, minus.
pub(super) const DASHES: [char; 7] = ['‐', '‑', '‒', '–', '—', '―', '−'];

impl Command {
    /// The word behind an option.
    pub(super) fn value(&self, options: &[&str]) -> Option<&Word> {
        let at = self.words.iter().position(|word| !word.quoted && options.contains(&word.text.as_str()))?;
        self.words[at + 1..].iter().find(|word| word.text != "!")
    }

    pub(super) fn has(&self, options: &[&str]) -> bool {
        self.words.iter().any(|word| !word.quoted && options.contains(&word.text.as_str()))
    }

    pub(super) fn table(&self) -> &str {
        self.value(&["-t", "--table"]).map_or("filter", |word| word.text.as_str())
    }

    /// The chain that a rule is added to, and whether at its head.
    pub(super) fn adds_to(&self) -> Option<(&str, bool)> {
        if let Some(chain) = self.value(&["-A", "--append", "--apend"]) {
            return Some((&chain.text, false));
        }
        self.value(&["-I", "--insert"]).map(|chain| (chain.text.as_str(), true))
    }

    pub(super) fn target(&self) -> Option<&str> {
        let long = self.value(&["-j", "--jump", "-g", "--goto"]).map(|word| word.text.as_str());
        long.or_else(|| self.words.iter().find_map(|word| word.text.strip_prefix("-j").filter(|rest| !rest.is_empty())))
    }

    pub(super) fn states(&self) -> Vec<&str> {
        let value = self.value(&["--state", "--ctstate"]).map_or("", |word| word.text.as_str());
        value.split(',').filter(|state| !state.is_empty()).collect()
    }

    /// Whether the rule matches every packet of its chain.
    pub(super) fn is_unconditional(&self) -> bool {
        const CONDITIONS: [&str; 14] = [
            "-s",
            "-d",
            "-i",
            "-o",
            "-p",
            "-m",
            "-f",
            "--source",
            "--destination",
            "--in-interface",
            "--out-interface",
            "--protocol",
            "--match",
            "--fragment",
        ];
        self.adds_to().is_some() && !self.has(&CONDITIONS)
    }

    /// All of it.
    pub(super) fn span(&self) -> (usize, usize) {
        let first = self.tool.as_ref().or(self.words.first());
        let end = self.words.iter().chain(&self.tool).map(|word| word.span.1).max();
        (first.map_or(0, |word| word.span.0), end.unwrap_or_default())
    }
}
