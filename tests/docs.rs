//! What the documents say is so: commands exist, samples load and prove themselves, screens look as they are shown.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use support::guard::{Guard, failed_password};
use support::lab::Lab;

const PAGES: [&str; 9] = [
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "docs/filters.md",
    "docs/from-fail2ban.md",
    "docs/performance.md",
    "docs/rules.md",
];
const MANUAL: [&str; 4] = ["banctl.8", "banward.8", "banward.toml.5", "banward-filter.5"];

/// A piece of a document that is set apart: a fenced block of Markdown, or an example of a manual page.
#[derive(Debug)]
struct Block {
    document: String,
    /// `sh`, `console`, `toml`; empty in manual pages.
    language: String,
    text: String,
}

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(project(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn manual(page: &str) -> String {
    let roff = read(&format!("docs/man/{page}"));
    roff.replace("\\-", "-").replace("\\[dq]", "\"").replace("\\[rs]", "\\").replace("\\&", "")
}

/// All blocks of all documents.
fn blocks() -> Vec<Block> {
    let mut blocks = Vec::new();
    for page in PAGES {
        // Blocks within lists are indented.
        let text = read(page);
        let text = if text.contains("\n   ```") { text.replace("\n   ", "\n") } else { text };
        let mut fences = text.split("\n```");
        fences.next();
        while let (Some(block), Some(_)) = (fences.next(), fences.next()) {
            let (language, text) = block.split_once('\n').expect("a fence ends its line");
            blocks.push(Block { document: page.to_owned(), language: language.to_owned(), text: format!("{text}\n") });
        }
    }
    for page in MANUAL {
        for example in manual(page).split("\n.EX\n").skip(1) {
            let (text, _) = example.split_once("\n.EE").expect("an example ends");
            blocks.push(Block { document: page.to_owned(), language: String::new(), text: text.to_owned() });
        }
    }
    blocks
}

fn has_pattern(block: &Block) -> bool {
    block.text.contains("[[pattern]]")
}

/// Whether it is a whole filter. One without samples shows what is refused.
fn is_filter(block: &Block) -> bool {
    has_pattern(block) && block.text.contains("[[pattern.hit]]")
}

/// What the description of a filter calls its program: `gatekeeper: failed log-ins`.
fn name_of(filter: &Block) -> &str {
    let description = filter.text.split("description = \"").nth(1).expect("a filter describes itself");
    description.split(':').next().expect("a split has a first part")
}

fn is_configuration(block: &Block) -> bool {
    let toml = block.language == "toml" || block.document == "banward.toml.5";
    toml && !has_pattern(block)
}

fn banctl(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_banctl")).args(args).output().expect("banctl runs")
}

/// What `banctl check` says of a configuration with these files, as paths below its folder and texts.
fn check(files: &[(&str, &str)]) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    for (path, text) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().expect("it is below")).expect("made");
        fs::write(path, text.replace("FOLDER", &folder.path().display().to_string())).expect("written");
    }
    banctl(&["check", &folder.path().join("banward.toml").display().to_string()])
}

fn everything(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The command lines of a document's text, each as its words.
fn commands(text: &str) -> Vec<Vec<String>> {
    let mut commands = Vec::new();
    for line in text.lines() {
        let line = line.trim_start_matches("# ").trim_start_matches("$ ");
        let line = line.split(" # ").next().unwrap_or_default();
        for command in line.split(['|', ';']).flat_map(|part| part.split("&&")) {
            commands.push(command.split_whitespace().map(str::to_owned).collect());
        }
    }
    commands
}

/// Everything in the documents that may be a command: lines of blocks, and code within sentences.
fn all_commands() -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    for block in blocks().iter().filter(|block| ["", "sh", "console"].contains(&&*block.language)) {
        found.extend(commands(&block.text).into_iter().map(|words| (block.document.clone(), words)));
    }
    for page in PAGES {
        for code in read(page).split('`').skip(1).step_by(2) {
            found.extend(commands(code).into_iter().map(|words| (page.to_owned(), words)));
        }
    }
    found
}

#[test]
fn every_command_of_the_documents_exists_with_its_options() {
    let makefile = read("Makefile");
    let mut seen = BTreeSet::new();
    for (document, words) in all_commands() {
        let Some((program, rest)) = words.split_first() else { continue };
        match program.as_str() {
            "make" => {
                let targets = rest.iter().filter(|word| !word.contains('='));
                for target in targets {
                    assert!(makefile.contains(&format!("\n{target}:")), "{document}: there is no 'make {target}'");
                }
            }
            "banctl" => {
                let subcommand = rest.iter().find(|word| word.starts_with(|first: char| first.is_ascii_lowercase()));
                let Some(subcommand) = subcommand else { continue };
                let mut asked = vec![subcommand.as_str()];
                // Those whose first argument is a subcommand too.
                if subcommand == "filters" || subcommand == "rules" {
                    let deeper = rest.iter().skip_while(|word| *word != subcommand).nth(1);
                    let deeper = deeper.map(|word| word.trim_end_matches('.'));
                    asked.extend(deeper.filter(|word| word.starts_with(|first: char| first.is_ascii_lowercase())));
                }
                let help = banctl(&[asked.as_slice(), &["--help"]].concat());
                assert!(help.status.success(), "{document}: there is no 'banctl {subcommand}'");
                let help = everything(&help);
                for option in rest.iter().filter(|word| word.starts_with("--")) {
                    let option = option.trim_end_matches([',', '.']);
                    assert!(help.contains(option), "{document}: 'banctl {subcommand}' has no {option}");
                }
            }
            "banward" => {
                let help = Command::new(env!("CARGO_BIN_EXE_banward")).arg("--help").output().expect("banward runs");
                for option in rest.iter().filter(|word| word.starts_with("--")) {
                    assert!(everything(&help).contains(option.as_str()), "{document}: banward has no {option}");
                }
            }
            _ => continue,
        }
        seen.insert(program.clone());
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["banctl", "banward", "make"], "the documents were not read");
}

#[test]
fn every_configuration_of_the_documents_is_in_order() {
    let mut count = 0;
    let main = format!("[daemon]\nfilters = [\"{}\", \"FOLDER/filters\"]\n", project("filters").display());
    let blocks = blocks();
    for block in blocks.iter().filter(|block| is_configuration(block)) {
        // A jail may be one of a filter that the same document shows.
        let mut files = vec![("banward.toml".to_owned(), &main), ("conf.d/sample.toml".to_owned(), &block.text)];
        let filters = blocks.iter().filter(|other| other.document == block.document && is_filter(other));
        files.extend(filters.map(|filter| (format!("filters/{}.toml", name_of(filter)), &filter.text)));
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        let output = check(&files);
        assert!(output.status.success(), "{}:\n{}\n{}", block.document, block.text, everything(&output));
        count += 1;
    }
    assert!(count >= 3, "only {count} configurations were found");
}

#[test]
fn every_filter_of_the_documents_proves_itself() {
    let mut count = 0;
    let main = "[daemon]\nfilters = [\"FOLDER/filters\"]\n";
    for block in blocks().iter().filter(|block| is_filter(block)) {
        let output = check(&[("banward.toml", main), ("filters/sample.toml", &block.text)]);
        let said = everything(&output);
        assert!(output.status.success() && said.contains("1 filter"), "{}: {said}", block.document);
        // It would not, had its samples not been tried.
        let broken = block.text.replacen("192.0.2.9\"", "192.0.2.10\"", 1);
        assert_ne!(broken, block.text, "{}", block.document);
        let output = check(&[("banward.toml", main), ("filters/sample.toml", &broken)]);
        assert_eq!(output.status.code(), Some(78), "{}", block.document);
        count += 1;
    }
    assert!(count >= 2, "only {count} filters were found");
}

/// Runs the commands of a page in a folder with the files that it shows, and compares what they print.
#[test]
fn the_page_about_filters_shows_what_happens() {
    let folder = tempfile::tempdir().expect("a folder");
    let programs = Path::new(env!("CARGO_BIN_EXE_banctl")).parent().expect("a folder").display().to_string();
    let path = format!("{programs}:{}", std::env::var("PATH").unwrap_or_default());
    let run = |command: &str| {
        let both = format!("{{ {command}; }} 2>&1");
        let mut shell = Command::new("sh");
        shell.args(["-c", &both]).current_dir(folder.path()).env("PATH", &path).env("TZ", "UTC");
        String::from_utf8(shell.output().expect("sh runs").stdout).expect("text")
    };
    let mut count = 0;
    for block in blocks().iter().filter(|block| block.document == "docs/filters.md") {
        match block.language.as_str() {
            "log" => fs::write(folder.path().join("gate.log"), &block.text).expect("written"),
            "toml" if has_pattern(block) => {
                let name = format!("{}.toml", name_of(block));
                fs::write(folder.path().join(name), &block.text).expect("written");
            }
            "console" => {
                for shown in block.text.split("$ banctl ").skip(1) {
                    let (arguments, output) = shown.split_once('\n').expect("a command ends its line");
                    assert_eq!(run(&format!("banctl {arguments}")), output, "banctl {arguments}");
                    count += 1;
                }
            }
            _ => {}
        }
    }
    assert!(count >= 7, "only {count} commands were run");
}

/// A screen without what differs from machine to machine: the labels of its head, and the titles of its tables.
fn shape(screen: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| -> Vec<String> {
        line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect()
    };
    let mut shape = Vec::new();
    for paragraph in screen.split("\n\n") {
        let rows: Vec<Vec<String>> = paragraph.lines().map(cells).collect();
        match rows.first() {
            Some(first) if first.len() == 2 => shape.push(rows.iter().filter_map(|row| row.first().cloned()).collect()),
            Some(first) => shape.push(first.clone()),
            None => (),
        }
    }
    shape
}

/// What follows the prompt and the command in the README.
fn sample(command: &str) -> String {
    let blocks = blocks();
    let shown = blocks.iter().find_map(|block| block.text.strip_prefix(&format!("# {command}\n")));
    shown.unwrap_or_else(|| panic!("README.md shows no '{command}'")).to_owned()
}

#[test]
fn status_and_list_look_as_the_readme_shows_them() {
    let lab = Lab::new();
    let sshd = "[jail.sshd]\nfilter = \"sshd\"\nsource = { files = [\"DIR/auth.log\"] }\n";
    let mut guard = Guard::new(&format!("[firewall]\non_stop = \"remove\"\n{sshd}"));
    guard.append("auth.log", "");
    guard.start(&lab.server);
    guard.append("auth.log", &failed_password("root", "203.0.113.7").repeat(5));
    guard.await_ban("203.0.113.7/32");
    guard.ctl(&["ban", "192.0.2.0/24"]);

    let (status, list) = (guard.ctl(&["status"]), guard.ctl(&["list"]));
    assert_eq!(shape(&sample("banctl status")), shape(&status), "{status}");
    assert_eq!(shape(&sample("banctl list")), shape(&list), "{list}");

    let figures = |screen: &str| {
        let line = screen.lines().find(|line| line.starts_with("bans  ")).expect("a line of bans");
        line.replace(|digit: char| digit.is_ascii_digit(), "N")
    };
    assert_eq!(figures(&sample("banctl status")), figures(&status));
    assert_eq!(sample("banctl status").lines().next(), status.lines().next());
}

#[test]
fn the_conversion_from_fail2ban_goes_as_its_page_shows_it() {
    let blocks = blocks();
    let of_page = |language: &str| -> Vec<&str> {
        let blocks = blocks.iter().filter(|block| block.document == "docs/from-fail2ban.md");
        blocks.filter(|block| block.language == language).map(|block| block.text.as_str()).collect()
    };
    let [jail, filter] = of_page("ini")[..] else { panic!("the page shows a jail.local and a filter") };
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    fs::create_dir_all(path("fail2ban/filter.d")).expect("made");
    fs::write(path("fail2ban/jail.local"), jail).expect("written");
    fs::write(path("fail2ban/filter.d/gatekeeper.conf"), filter).expect("written");
    fs::write(path("own.toml"), format!("[daemon]\nfilters = [\"{}\"]\n", project("filters").display()))
        .expect("written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_banctl"));
    let output = command.current_dir(folder.path()).args(["--config", "own.toml", "convert", "fail2ban"]).output();
    let output = output.expect("banctl runs");
    assert!(output.status.success(), "{}", everything(&output));
    let shown = of_page("console")[0].strip_prefix("# banctl convert /etc/fail2ban\n").expect("the command");
    assert_eq!(shown, everything(&output));
}

#[test]
fn the_tests_that_are_named_exist() {
    let mut sources = String::new();
    for pattern in ["src/**/*.rs", "tests/**/*.rs"] {
        let files = glob(pattern);
        assert!(!files.is_empty());
        sources.extend(files.iter().map(|path| fs::read_to_string(path).expect("a source file")));
    }
    let mut count = 0;
    for page in PAGES {
        for code in read(page).split('`').skip(1).step_by(2) {
            let word = |part: char| part.is_ascii_lowercase() || part.is_ascii_digit() || part == '_';
            if code.matches('_').count() < 3 || !code.chars().all(word) {
                continue;
            }
            assert!(sources.contains(&format!("fn {code}(")), "{page} names the test {code}, which does not exist");
            count += 1;
        }
    }
    assert!(count >= 10, "only {count} tests are named");
}

fn glob(pattern: &str) -> Vec<PathBuf> {
    let output = Command::new("bash")
        .current_dir(project("."))
        .args(["-O", "globstar", "-O", "nullglob", "-c", &format!("printf '%s\\n' {pattern}")])
        .output()
        .expect("bash runs");
    String::from_utf8_lossy(&output.stdout).lines().map(project).collect()
}

#[test]
fn links_and_paths_lead_somewhere() {
    for page in PAGES {
        for link in read(page).split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            let outside = link.starts_with("http") || target.is_empty();
            let target = Path::new(page).with_file_name(target);
            assert!(outside || project(&target.to_string_lossy()).exists(), "{page} links to {link}");
        }
    }
}

#[test]
fn the_manual_explains_every_key_of_the_shipped_configuration() {
    let page = manual("banward.toml.5");
    let mut count = 0;
    for line in read("config/banward.toml").lines() {
        let line = line.trim_start_matches("# ");
        let Some((key, _)) = line.split_once(" = ") else { continue };
        if !key.chars().all(|part| part.is_ascii_lowercase() || part == '_') {
            continue;
        }
        let explained = [".BR ", ".B ", ".BI "].iter().any(|font| page.contains(&format!("\n{font}{key}")));
        assert!(explained, "banward.toml(5) does not explain '{key}'");
        count += 1;
    }
    for section in
        ["[daemon]", "[firewall]", "[blocklist]", "[allow]", "[budget]", "[host]", "[defaults]", "[jail.NAME]"]
    {
        assert!(page.contains(&format!("\n.SH {section}\n")), "banward.toml(5) has no section {section}");
    }
    assert!(count > 20, "only {count} keys were found");
}

/// What a page shows behind a prompt and a command.
fn screen(page: &str, command: &str) -> String {
    let blocks = blocks();
    let shown = blocks.iter().filter(|block| block.document == page);
    let mut shown = shown.filter_map(|block| block.text.strip_prefix(&format!("# {command}\n")));
    shown.next().unwrap_or_else(|| panic!("{page} shows no '{command}'")).to_owned()
}

#[test]
fn the_rules_are_checked_as_their_page_shows() {
    let page = "docs/rules.md";
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("banward.toml");
    let blocks = blocks();
    let section = blocks.iter().find(|block| block.document == page && block.text.starts_with("[host]"));
    fs::write(&config, &section.expect("a section").text).expect("written");
    let config = config.display().to_string();
    // Who is logged in here is not for the page to know.
    let own = |text: String| -> String {
        text.lines().filter(|line| !line.contains("SSH session")).map(|line| line.to_owned() + "\n").collect()
    };
    let output = banctl(&["--config", &config, "rules", "check"]);
    assert_eq!(own(screen(page, "banctl rules check")), own(String::from_utf8_lossy(&output.stdout).into_owned()));

    let script = blocks.iter().find(|block| block.document == page && block.text.starts_with("iptables -F"));
    fs::write(folder.path().join("firewall.sh"), &script.expect("a script").text).expect("written");
    let mut lint = Command::new(env!("CARGO_BIN_EXE_banctl"));
    let output = lint.args(["rules", "lint", "firewall.sh"]).current_dir(folder.path()).output().expect("banctl runs");
    assert_eq!(screen(page, "banctl rules lint firewall.sh"), everything(&output));
}
