//! `--json` where nothing but a verdict is to be told: `check`, and what changes the rules of the host.

use super::*;

/// A folder with this configuration, which names an empty folder of filters and one for the state.
fn configured(text: &str) -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("banward.toml");
    let filters = folder.path().join("filters");
    fs::create_dir(&filters).unwrap();
    let (filters, state) = (filters.display(), folder.path().display());
    let head = format!("daemon = {{ filters = ['{filters}'], state_dir = '{state}' }}\n");
    fs::write(&config, head + text).unwrap();
    let config = config.display().to_string();
    (folder, config)
}

#[test]
fn a_check_is_one_object_for_each_problem_and_one_for_the_whole() {
    let (folder, config) = configured("[jail.odd]\nfilter = 'none'\n");
    let checked = run(&["check", "--json", &config]);
    assert_eq!((checked.code, checked.stderr.as_str()), (Some(78), ""));
    let objects = checked.json();
    let problem = json!({"path": config, "line": 3, "column": 10, "severity": "error",
        "message": "there is no filter \"none\"", "hint": objects[0]["hint"]});
    assert_eq!(objects[0], problem);
    let verdict = json!({"path": config, "jails": null, "filters": null, "errors": 1, "warnings": 0});
    assert_eq!(objects[1..], [verdict]);
    fs::write(&config, format!("daemon.filters = ['{}/filters']\n", folder.path().display())).unwrap();
    let checked = run(&["check", "--json", &config]);
    let objects = checked.json();
    assert_eq!(
        (checked.code, &objects[0]["severity"], &objects[0]["line"]),
        (Some(0), &json!("warning"), &json!(null))
    );
    let verdict = json!({"path": config, "jails": 0, "filters": 0, "errors": 0, "warnings": 1});
    assert_eq!(objects.last(), Some(&verdict));
}

#[test]
fn the_rules_are_an_object_for_each_tool() {
    let (_folder, config) = configured("[host]\nincoming = 'drop'\n");
    let objects = |format: &str| run(&["rules", "show", "--json", "--config", &config, "--format", format]).json();
    let tools = |format: &str| objects(format).iter().map(|object| object["tool"].clone()).collect::<Vec<_>>();
    assert_eq!(tools("iptables")[..2], [json!("iptables-restore"), json!("ip6tables-restore")]);
    assert_eq!((tools("nft"), tools("sh")), (vec![json!("nft")], vec![json!("sh")]));
    assert!(objects("iptables")[0]["text"].as_str().unwrap().starts_with('*'));
    let text = run(&["rules", "show", "--config", &config, "--format", "nft"]).stdout;
    assert_eq!(objects("nft")[0]["text"], json!(text));
}

#[test]
fn what_is_refused_to_the_rules_is_an_object_too() {
    let (folder, config) = configured("[host]\n");
    let empty = folder.path().display().to_string();
    for (arguments, why) in [
        (&["confirm"][..], "no rules are on trial: none were applied, or they are gone again."),
        (&["restore", "--folder", &empty], &format!("{empty} has no saved rules of [host].")),
    ] {
        let run = run(&[&["rules", "--json", "--config", &config], arguments].concat());
        assert_eq!(run.json(), [json!({"result": "refused", "message": why})]);
        assert_eq!((run.code, run.stderr), (Some(1), format!("banctl: {why}\n")));
    }
}
