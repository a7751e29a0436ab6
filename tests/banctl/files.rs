//! Files that a newcomer gives: compressed ones, and names that a terminal would obey.

use super::*;

const GZIP: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00";

const FILTER: &str = "description = 'd'\nformat = 'plain'\n[[pattern]]\nname = 'no'\nregex = '^no <ADDR>$'\n\
    [[pattern.hit]]\nline = 'no 192.0.2.9'\naddr = '192.0.2.9'\n[[miss]]\nline = 'yes'\n";

/// A folder with a configuration, a folder with one filter, and a file of this name; the configuration's path.
fn with(name: &str, bytes: &[u8]) -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let filters = folder.path().join("filters");
    fs::create_dir(&filters).unwrap();
    fs::write(filters.join("d.toml"), FILTER).unwrap();
    let config = folder.path().join("banward.toml");
    fs::write(&config, format!("daemon.filters = ['{}']\n", filters.display())).unwrap();
    fs::write(folder.path().join(name), bytes).unwrap();
    let config = config.display().to_string();
    (folder, config)
}

#[test]
fn a_compressed_file_is_no_log_and_no_list() {
    let (folder, config) = with("auth.log.gz", GZIP);
    let path = folder.path().join("auth.log.gz").display().to_string();
    for (arguments, command) in [
        (&["replay", &path][..], "replay -"),
        (&["replay", "--diff", &config, &path], "replay -"),
        (&["scan", "--all", &path], "scan … -"),
        (&["filters", "coverage", "--log", &path], "filters coverage … --log -"),
        (&["filters", "draft", "--name", "x", &path], "filters draft … -"),
        (&["import", "--dry-run", &path], "import --name NAME -"),
        (&["rules", "lint", &path], "rules lint -"),
    ] {
        let run = run(&[&["--config", &config], arguments].concat());
        let advice = format!("it is compressed; 'zcat {path} | banctl {command}' reads it");
        assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""), "{arguments:?}: {}", run.stderr);
        assert!(run.stderr.contains(&path) && run.stderr.contains(&advice), "{arguments:?}: {}", run.stderr);
    }
    let file = fs::File::open(&path).unwrap();
    let run = Run::of(banctl(&["replay", "--config", &config, "-"]).stdin(file).output().unwrap());
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("put 'zcat |' before banctl"), "{}", run.stderr);
}

#[test]
fn no_name_of_a_file_reaches_the_terminal_as_it_is() {
    let name = "na\u{1b}[31m\u{202e}me.log";
    let (folder, config) = with(name, b"no 192.0.2.9\nno 192.0.2.9 x\n");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (log, missing) = (path(name), path("mis\u{1b}[31m\u{202e}sing"));
    for (arguments, parts) in [
        (&["scan", "--all", &log, &missing][..], ["/na\\u{1b}[31m\\u{202e}me.log:1", "/mis\\u{1b}[31m\\u{202e}sing: "]),
        (&["replay", &missing], ["/mis\\u{1b}[31m\\u{202e}sing cannot", ""]),
        (&["check", &missing], ["/mis\\u{1b}[31m\\u{202e}sing: there is no", "\nmis\\u{1b}[31m\\u{202e}sing: 1 error"]),
        (&["import", "--dry-run", &log], ["/na\\u{1b}[31m\\u{202e}me.log:1: ", ""]),
        (&["scan", "--all", "--json", &log], ["/na\\u001b[31m\\u202eme.log", ""]),
        (&["check", "--json", &missing], ["/mis\\u001b[31m\\u202esing", ""]),
    ] {
        let run = run(&[&["--config", &config], arguments].concat());
        let shown = run.stdout + &run.stderr;
        assert!(!shown.contains(['\u{1b}', '\u{202e}']), "{arguments:?}: {shown}");
        assert!(parts.iter().all(|part| shown.contains(part)), "{arguments:?}: {shown}");
    }
}

#[test]
fn the_doctor_tells_a_directory_from_a_log_that_is_not_there() {
    let (folder, config) = with("log", b"");
    let logs = folder.path().join("filters").display().to_string();
    let jail = format!("[jail.x]\nfilter = 'd'\nsource = {{ files = ['{logs}'] }}\n");
    fs::write(&config, fs::read_to_string(&config).unwrap() + &jail).unwrap();
    let findings = run(&["doctor", "--json", "--config", &config]).json();
    let about: Vec<&Value> = findings.iter().filter(|finding| finding["check"] == "logs").collect();
    let message = format!("x: {logs} is a directory, and nothing in it is read");
    assert_eq!((about.len(), &about[0]["verdict"], &about[0]["message"]), (1, &json!("warn"), &json!(message)));
}
