//! Which filter of ours reads the lines of which filter of fail2ban. Names only: both look at the same services.

/// A filter of fail2ban and ours, where the names differ.
const OTHERS: [(&str, &str); 55] = [
    ("apache-auth", "apache"),
    ("apache-badbots", "http-scanners"),
    ("apache-botsearch", "http-probes"),
    ("apache-fakegooglebot", "http-scanners"),
    ("apache-modsecurity", "apache"),
    ("apache-nohome", "apache"),
    ("apache-noscript", "apache"),
    ("apache-overflows", "apache"),
    ("apache-shellshock", "http-attacks"),
    ("asterisk-tcp", "asterisk"),
    ("asterisk-udp", "asterisk"),
    ("counterstrike", "counter-strike"),
    ("courier-auth", "courier"),
    ("courier-pop3", "courier"),
    ("courier-imap", "courier"),
    ("courier-smtp", "courier"),
    ("couriersmtp", "courier"),
    ("courierlogin", "courier"),
    ("domino-smtp", "domino"),
    ("drupal-auth", "drupal"),
    ("exim-spam", "exim"),
    ("gssftpd", "ftpd"),
    ("haproxy-http-auth", "haproxy"),
    ("kerio", "kerio-connect"),
    ("lighttpd-auth", "lighttpd"),
    ("mongodb-auth", "mongodb"),
    ("mssql-auth", "mssql"),
    ("mysqld-auth", "mysqld"),
    ("named-refused", "named"),
    ("nginx-auth", "nginx-http-auth"),
    ("nginx-bad-request", "http-bad-request"),
    ("nginx-botsearch", "http-probes"),
    ("nginx-error-common", "nginx"),
    ("nginx-forbidden", "nginx"),
    ("nginx-limit-req", "nginx"),
    ("php-url-fopen", "http-remote-file"),
    ("phpmyadmin-syslog", "phpmyadmin"),
    ("postfix-auth", "postfix"),
    ("postfix-rbl", "postfix"),
    ("postfix-sasl", "postfix"),
    ("qmail-rbl", "qmail"),
    ("roundcube", "roundcube-auth"),
    ("routeros-auth", "routeros"),
    ("sendmail-auth", "sendmail"),
    ("sendmail-reject", "sendmail"),
    ("sogo-auth", "sogo"),
    ("ssh", "sshd"),
    ("sshd-ddos", "sshd"),
    ("sshd-aggressive", "sshd"),
    ("sasl", "postfix"),
    ("traefik-auth", "traefik"),
    ("uwimap-auth", "uwimap"),
    ("webmin-auth", "webmin"),
    ("wuftpd", "ftpd"),
    ("xinetd-fail", "xinetd"),
];

/// Modes in which fail2ban takes what an unlucky user may cause; `aggressive` is our word for them.
const STRICT_MODES: [&str; 3] = ["aggressive", "ddos", "extra"];

/// Our filter for the service, if there is one among those that are installed.
pub(super) fn ours(name: &str, is_installed: impl Fn(&str) -> bool) -> Option<String> {
    candidates(name).find(|name| is_installed(name)).map(str::to_owned)
}

/// The names that such a filter may have.
pub(super) fn candidates(name: &str) -> impl Iterator<Item = &str> {
    let other = OTHERS.iter().find(|(theirs, _)| *theirs == name).map(|(_, ours)| *ours);
    other.into_iter().chain([name])
}

/// Whether a filter in this mode takes more than failed attempts.
pub(super) fn is_strict(name: &str, mode: &str) -> bool {
    STRICT_MODES.contains(&mode) || name.ends_with("-ddos") || name.ends_with("-aggressive")
}
