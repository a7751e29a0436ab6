//! Mistakes of the shell around the rules.

use super::Finding;
use super::line::typography;
use super::read::Source;

pub(super) fn check(text: &str, source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut offset = 0;
    for (index, line) in text.split_inclusive('\n').take(super::MAX_LINES).enumerate() {
        let content = line.trim_end();
        let span = (offset, offset + content.len());
        if !content.trim_start().starts_with('#') {
            findings.extend(typography(content, offset));
            if !source.is_save {
                findings.extend(statement(content.trim_start(), span));
            }
        }
        if index == 0 && !source.is_save && is_broken_shebang(content) {
            let message = "the first line does not name the shell";
            findings.push(Finding::error("shebang", span, message, "write '#!/bin/sh'"));
        }
        offset += line.len();
    }
    findings
}

/// `! /Bin/bash`, `#/bin/sh`.
fn is_broken_shebang(line: &str) -> bool {
    let lower = line.to_ascii_lowercase().replace(' ', "");
    let names_shell = lower.ends_with("/bin/sh") || lower.ends_with("/bin/bash");
    names_shell && !(line.starts_with("#!/") || line.starts_with("#! /")) || line.starts_with("#!/Bin")
}

fn statement(line: &str, span: (usize, usize)) -> Option<Finding> {
    spaced_assignment(line, span)
        .or_else(|| quoted_list(line, span))
        .or_else(|| grep_comments(line, span))
        .or_else(|| old_module(line, span))
}

/// `PORTS = "80 21"`, which calls a command PORTS.
fn spaced_assignment(line: &str, span: (usize, usize)) -> Option<Finding> {
    let mut words = line.split_whitespace();
    let (name, equals) = (words.next()?, words.next()?);
    let is_name = name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
    if !is_name || equals != "=" {
        return None;
    }
    let message = format!("the shell takes '{name}' for a command: an assignment has no blanks around '='");
    Some(Finding::error("assignment", span, message, format!("write '{name}=…'")))
}

/// `for port in "$PORTS"`, which goes round once.
fn quoted_list(line: &str, span: (usize, usize)) -> Option<Finding> {
    let rest = line.strip_prefix("for ")?;
    let (name, list) = rest.split_once(" in ")?;
    let list = list.trim_end_matches([';', ' ']).trim_end_matches("do").trim_end_matches([';', ' ']).trim();
    let inner = list.strip_prefix(['"', '“'])?.strip_suffix(['"', '”'])?.trim();
    let variable = inner.strip_prefix('$')?.trim();
    let is_one = !variable.contains('$') && !variable.contains('[') && !variable.starts_with('(');
    let message =
        format!("in quotes the list is a single word, so the loop goes round once with all of it in '{name}'");
    is_one.then(|| Finding::error("quoted-list", span, message, format!("write 'for {name} in ${variable}'")))
}

/// `grep -Ev "^#"` keeps what stands behind an address.
fn grep_comments(line: &str, span: (usize, usize)) -> Option<Finding> {
    let plain = line.replace(['“', '”', '‘', '’'], "\"");
    let filters = plain.contains("grep") && plain.contains("^#") && plain.contains('v');
    let message = "a comment behind an address stays, and each of its words becomes a rule of its own";
    let remedy = "use \"sed 's/#.*//'\", or hand the list to 'banctl import' or [blocklist] read";
    filters.then(|| Finding::warning("inline-comments", span, message, remedy))
}

fn old_module(line: &str, span: (usize, usize)) -> Option<Finding> {
    let old = line.strip_prefix("modprobe ").filter(|rest| rest.trim_start().starts_with("ip_conntrack"))?;
    let new = old.trim().replace("ip_conntrack", "nf_conntrack");
    let message = "this module has another name since Linux 2.6.20";
    Some(Finding::warning("old-module", span, message, format!("write 'modprobe {new}'")))
}
