use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_795_262_400);

/// Seconds before now.
fn ago(seconds: i64) -> i64 {
    NOW.as_secs() - seconds
}

fn read_database(tables: &str) -> Found {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fail2ban.sqlite3");
    Connection::open(&path).unwrap().execute_batch(tables).unwrap();
    read(&path, |_| Length::For(Duration::from_secs(600)), NOW).unwrap()
}

/// Address, jail, seconds until its end (from now) and count.
fn told(found: &Found) -> Vec<String> {
    let end = |until| match until {
        Until::At(end) => (end.as_secs() - NOW.as_secs()).to_string(),
        Until::Forever => "forever".to_owned(),
    };
    let tell = |ban: &Former| format!("{} {} {} {}", ban.prefix, ban.jail, end(ban.until), ban.count);
    found.bans.iter().map(tell).collect()
}

const TABLES: &str = "CREATE TABLE bips(ip TEXT, jail TEXT, timeofban, bantime, bancount, data JSON);\
                      CREATE TABLE bans(jail TEXT, ip TEXT, timeofban, bantime, bancount, data JSON);";

#[test]
fn bans_that_stand_keep_their_ends_and_those_that_are_over_are_counted() {
    let (hour, day) = (ago(3600), ago(86_400));
    let found = read_database(&format!(
        "{TABLES}INSERT INTO bips VALUES('192.0.2.1','sshd',{hour},7200,4,'{{}}'),('192.0.2.2','web',{day},-1,1,'{{}}'),\
         ('192.0.2.3','sshd',{day},600,1,'{{}}'),('2001:db8::1','sshd',{hour},7200,1,'{{}}');\
         INSERT INTO bans VALUES('sshd','192.0.2.1',{day},600,3,'{{}}'),('sshd','192.0.2.1',{hour},7200,4,'{{}}'),\
         ('sshd','192.0.2.3',{day},600,1,'{{}}'),('web','192.0.2.3',{hour},60,1,'{{}}');"
    ));
    let wanted = [
        "192.0.2.1/32 sshd 3600 4",
        "192.0.2.2/32 web forever 1",
        "2001:db8::1/128 sshd 3600 1",
        "192.0.2.1/32 sshd -85800 3",
        "192.0.2.3/32 web -3540 2",
    ];
    assert_eq!((told(&found), found.standing, found.bad), (wanted.map(str::to_owned).to_vec(), 3, 0));
}

#[test]
fn an_old_database_without_lengths_takes_those_of_the_jails() {
    let (minute, hour) = (ago(60), ago(3600));
    let found = read_database(&format!(
        "CREATE TABLE bans(jail TEXT NOT NULL, ip TEXT, timeofban INTEGER NOT NULL, data JSON);\
         INSERT INTO bans VALUES('sshd','192.0.2.1',{minute},''),('sshd','192.0.2.2',{hour},'');"
    ));
    assert_eq!(told(&found), ["192.0.2.1/32 sshd 540 1", "192.0.2.2/32 sshd -3000 1"]);
}

#[test]
fn a_bad_row_is_named_and_costs_nothing_else() {
    let hour = ago(3600);
    let found = read_database(&format!(
        "{TABLES}INSERT INTO bips VALUES('host.example','sshd',{hour},7200,1,''),(NULL,'sshd',{hour},7200,1,''),\
         ('192.0.2.1','',{hour},7200,1,''),('192.0.2.1','sshd',-5,7200,1,''),('192.0.2.1','sshd',9e18,7200,1,''),\
         ('192.0.2.1','sshd',{hour},'soon',1,''),('192.0.2.9','sshd',{hour}.5,7200,'x','');"
    ));
    assert_eq!(told(&found), ["192.0.2.9/32 sshd 3600 1"]);
    assert_eq!(found.bad, 6);
    assert_eq!(found.bad_rows[0], "bips, row 1: 'host.example' is not an address");
    assert_eq!(found.bad_rows[5], "bips, row 6: 'soon' is not a length");
}

#[test]
fn what_is_no_database_of_fail2ban_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    std::fs::write(&path, "not a database, but long enough to look at for a while").unwrap();
    assert!(read(&path, |_| Length::Forever, NOW).is_err());
    assert!(read(&folder.path().join("none"), |_| Length::Forever, NOW).is_err());
    assert!(!folder.path().join("none").exists(), "reading must not make it");
}
