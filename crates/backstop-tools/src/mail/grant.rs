//! What an owner grants: by which server, from whom, and to whom. Addresses are read here, once.

use crate::schemas::SecretReference;
use backstop_call::Secret;
use lettre::Address;
use lettre::message::Mailbox;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::time::Duration;
use url::Host;

/// What mail an agent may send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct MailGrant {
    /// The SMTP server, by name or address. Since 0.1.
    pub server: String,
    /// Its port: 465 for TLS from the start, 587 for STARTTLS, 25 for neither, if none is given. Since 0.1.
    #[serde(default)]
    pub port: Option<u16>,
    /// How it is spoken to. Since 0.1.
    #[serde(default)]
    pub tls: MailTls,
    /// The user to log in as. Since 0.1.
    #[serde(default)]
    pub user: Option<String>,
    /// The password, as a reference to a secret. Since 0.1.
    #[serde(default)]
    #[schemars(with = "Option<SecretReference>")]
    pub password: Option<String>,
    /// Whom all mail is from: `agent@example.com` or `Agent <agent@example.com>`. Since 0.1.
    pub from: String,
    /// Who may get mail: `ann@example.com`, `*@example.com`, `*@*.example.com`. Since 0.1.
    pub recipients: Vec<String>,
    /// The most recipients of one message. Since 0.1.
    #[serde(default = "max_recipients")]
    #[schemars(range(min = 1, max = 100))]
    pub max_recipients: usize,
    /// The largest message, in bytes as it is sent (attachments grow by a third). Since 0.1.
    #[serde(default = "max_bytes")]
    #[schemars(range(min = 1_024, max = 67_108_864))]
    pub max_bytes: u64,
    /// Whether files of the workspace may be attached. Since 0.1.
    #[serde(default)]
    pub attachments: bool,
    /// How long sending may take, in seconds. Since 0.1.
    #[serde(default = "timeout_seconds")]
    #[schemars(range(min = 1, max = 3_600))]
    pub timeout_seconds: u64,
}

/// How a server is spoken to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MailTls {
    /// By TLS from the first byte.
    #[default]
    Implicit,
    /// By TLS after STARTTLS, or not at all.
    Starttls,
    /// In the clear.
    None,
}

/// A grant that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MailGrantError {
    /// The server is neither a name nor an address.
    #[error("`{0}` is no host of a server")]
    Server(String),
    /// The sender is no address.
    #[error("`{0}` is no address to send from; write it like agent@example.com or Agent <agent@example.com>")]
    From(String),
    /// A pattern that names nobody.
    #[error(
        "`{0}` is no pattern of recipients; write it like ann@example.com, *@example.com or *@*.example.com"
    )]
    Recipient(String),
    /// A user without a password, or a password without a user.
    #[error("a user needs a password, and a password a user")]
    Login,
    /// A password that would be sent in the clear.
    #[error("a password is not sent without TLS, but to this machine")]
    PasswordInTheClear,
    /// A password that is not there. The text says which reference, never a value.
    #[error("the password of the mail server: {0}")]
    Secret(String),
    /// A number outside of what is allowed.
    #[error("{0}")]
    Range(&'static str),
}

fn max_recipients() -> usize {
    10
}

fn max_bytes() -> u64 {
    1024 * 1024
}

fn timeout_seconds() -> u64 {
    30
}

/// A grant that was checked.
pub(super) struct Granted {
    pub(super) server: String,
    pub(super) port: u16,
    pub(super) tls: MailTls,
    pub(super) login: Option<(String, Secret)>,
    pub(super) from: Mailbox,
    recipients: Vec<Pattern>,
    texts: Vec<String>,
    pub(super) max_recipients: usize,
    pub(super) max_bytes: u64,
    pub(super) attachments: bool,
    pub(super) timeout: Duration,
}

/// Who may get mail.
struct Pattern {
    /// `None` is anybody there.
    user: Option<String>,
    domain: String,
    /// Whether what lies below the domain is meant, and not itself.
    is_below: bool,
}

impl Granted {
    pub(super) fn check(
        grant: &MailGrant,
        secret: &dyn Fn(&str) -> Result<Secret, String>,
    ) -> Result<Self, MailGrantError> {
        let host = Host::parse(&grant.server).map_err(|_| MailGrantError::Server(grant.server.clone()))?;
        let server = match &host {
            Host::Domain(name) => name.clone(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        };
        let is_this_machine = server.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        let login = match (&grant.user, &grant.password) {
            (None, None) => None,
            (Some(_), Some(_)) if grant.tls == MailTls::None && !is_this_machine => {
                return Err(MailGrantError::PasswordInTheClear);
            }
            (Some(user), Some(reference)) => {
                // A password that was read from a file often ends in a line break.
                let password = secret(reference).map_err(MailGrantError::Secret)?;
                Some((user.clone(), Secret::new(password.expose().trim())))
            }
            (Some(_), None) | (None, Some(_)) => return Err(MailGrantError::Login),
        };
        let from = grant.from.parse::<Mailbox>().ok().filter(|from| from.email.to_string().is_ascii());
        if grant.max_recipients == 0 || !(1..=3_600).contains(&grant.timeout_seconds) {
            return Err(MailGrantError::Range("a message has a recipient, and 1 to 3600 seconds to be sent"));
        }
        let pattern =
            |text: &String| Pattern::parse(text).ok_or_else(|| MailGrantError::Recipient(text.clone()));
        Ok(Self {
            server,
            port: grant.port.unwrap_or(match grant.tls {
                MailTls::Implicit => 465,
                MailTls::Starttls => 587,
                MailTls::None => 25,
            }),
            tls: grant.tls,
            login,
            from: from.ok_or_else(|| MailGrantError::From(grant.from.clone()))?,
            recipients: grant.recipients.iter().map(pattern).collect::<Result<_, _>>()?,
            texts: grant.recipients.clone(),
            max_recipients: grant.max_recipients,
            max_bytes: grant.max_bytes,
            attachments: grant.attachments,
            timeout: Duration::from_secs(grant.timeout_seconds),
        })
    }

    /// Reads a recipient, if he is granted. The error is for the model.
    pub(super) fn recipient(&self, text: &str) -> Result<Address, String> {
        let shown = backstop_agent::visible_line(text);
        let Some((user, domain)) = parts(text) else {
            return Err(format!(
                "`{shown}` is no plain address. Write it like ann@example.com, without a name."
            ));
        };
        if !self.recipients.iter().any(|pattern| pattern.fits(user, &domain)) {
            let granted = if self.texts.is_empty() { "nobody".to_owned() } else { self.texts.join(", ") };
            return Err(format!("Mail to `{shown}` is not granted. You may write to: {granted}."));
        }
        Address::new(user, domain).map_err(|error| format!("`{shown}` is no address: {error}."))
    }

    /// A text from outside without the password in it, and not too long.
    pub(super) fn scrub(&self, text: &str) -> String {
        const MAX_CHARS: usize = 300;
        let secret =
            self.login.as_ref().map(|(_, secret)| secret.expose()).filter(|secret| !secret.is_empty());
        let text = secret.map_or_else(|| text.to_owned(), |secret| text.replace(secret, "[secret]"));
        backstop_agent::visible_line(&text.chars().take(MAX_CHARS).collect::<String>())
    }
}

impl Pattern {
    fn parse(text: &str) -> Option<Self> {
        let (user, domain) = text.split_once('@')?;
        let (is_below, domain) = domain.strip_prefix("*.").map_or((false, domain), |domain| (true, domain));
        // Any user reads the domain just as well.
        let (_, domain) = parts(&format!("x@{domain}"))?;
        let user = match user {
            "*" => None,
            user => Some(parts(&format!("{user}@example.com"))?.0.to_owned()),
        };
        // A whole top-level domain is a mistake.
        (!is_below || domain.contains('.')).then_some(Self { user, domain, is_below })
    }

    fn fits(&self, user: &str, domain: &str) -> bool {
        let below = || domain.strip_suffix(&self.domain).is_some_and(|rest| rest.ends_with('.'));
        let is_domain = if self.is_below { below() } else { domain == self.domain };
        is_domain && self.user.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(user))
    }
}

/// The user and the domain of a plain address: no name, no quotes, no comments, no routes (`%`, `!`), no address literals;
/// the domain as it is looked up.
fn parts(text: &str) -> Option<(&str, String)> {
    let (user, domain) = text.split_once('@')?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_+.'=&~".contains(c);
    let is_user = !user.is_empty()
        && user.len() <= 64
        && user.chars().all(is_plain)
        && user.split('.').all(|part| !part.is_empty());
    let allowed = |c: char| c.is_alphanumeric() || c == '-' || c == '.';
    if !is_user || !domain.chars().all(allowed) {
        return None;
    }
    match Host::parse(domain).ok()? {
        Host::Domain(name) if !name.ends_with('.') => Some((user, name)),
        Host::Domain(_) | Host::Ipv4(_) | Host::Ipv6(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(recipients: &[&str]) -> MailGrant {
        let recipients: Vec<_> = recipients.to_vec();
        let grant = serde_json::json!({"server": "mail.test", "from": "Agent <a@example.com>", "recipients": recipients});
        serde_json::from_value(grant).unwrap()
    }

    fn check(grant: &MailGrant) -> Result<Granted, MailGrantError> {
        Granted::check(grant, &|reference| match reference {
            "env:PASSWORD" => Ok(Secret::new("canary")),
            other => Err(format!("{other} is not set")),
        })
    }

    #[test]
    fn who_may_get_mail() {
        let granted =
            check(&grant(&["ann@example.com", "*@team.test", "*@*.corp.test", "*@bücher.example"])).unwrap();
        for (text, want) in [
            ("ann@example.com", Some("ann@example.com")),
            ("Ann@EXAMPLE.com", Some("Ann@example.com")),
            ("any.body+tag@team.test", Some("any.body+tag@team.test")),
            ("x@a.corp.test", Some("x@a.corp.test")),
            ("x@a.b.corp.test", Some("x@a.b.corp.test")),
            ("x@bücher.example", Some("x@xn--bcher-kva.example")),
            ("x@xn--bcher-kva.example", Some("x@xn--bcher-kva.example")),
            ("bob@example.com", None),
            ("x@corp.test", None),
            ("x@evilcorp.test", None),
            ("x@team.test.evil.test", None),
            ("x@sub.team.test", None),
            ("ann@example.com.", None),
            ("ann@example.com@team.test", None),
            ("bob%evil.test@team.test", None),
            ("evil.test!bob@team.test", None),
            ("\"bob\"@team.test", None),
            ("\"b@evil.test, x\"@team.test", None),
            ("Bob <bob@team.test>", None),
            ("<bob@team.test>", None),
            ("bob@team.test, eve@evil.test", None),
            ("bob@team.test\r\nBcc: eve@evil.test", None),
            ("bob\n@team.test", None),
            ("bob@team.test\0", None),
            ("bob@[127.0.0.1]", None),
            ("bob@127.0.0.1", None),
            (".bob@team.test", None),
            ("b..ob@team.test", None),
            ("@team.test", None),
            ("bob", None),
            ("", None),
        ] {
            let got = granted.recipient(text);
            assert_eq!(got.as_ref().map(ToString::to_string).ok().as_deref(), want, "{text}: {got:?}");
        }
        expect_test::expect!["Mail to `eve@evil.test` is not granted. You may write to: ann@example.com, *@team.test, *@*.corp.test, *@bücher.example."]
            .assert_eq(&granted.recipient("eve@evil.test").unwrap_err());
    }

    #[test]
    fn grants_that_cannot_be() {
        let with = |change: fn(&mut MailGrant)| {
            let mut grant = grant(&["*@team.test"]);
            change(&mut grant);
            check(&grant).err()
        };
        for text in
            ["*", "ann", "*@*", "*@*.test", "a*@team.test", "Ann <ann@team.test>", "@team.test", "*@[::1]"]
        {
            assert_eq!(
                check(&grant(&[text])).err(),
                Some(MailGrantError::Recipient(text.to_owned())),
                "{text}"
            );
        }
        for (got, want) in [
            (with(|_| ()), None),
            (with(|grant| grant.server = "a b".into()), Some(MailGrantError::Server("a b".into()))),
            (with(|grant| grant.from = "nobody".into()), Some(MailGrantError::From("nobody".into()))),
            (
                with(|grant| grant.from = "a@x.test\r\nBcc: e".into()),
                Some(MailGrantError::From("a@x.test\r\nBcc: e".into())),
            ),
            (with(|grant| grant.user = Some("u".into())), Some(MailGrantError::Login)),
            (
                with(|grant| (grant.user, grant.password) = (Some("u".into()), Some("env:NONE".into()))),
                Some(MailGrantError::Secret("env:NONE is not set".into())),
            ),
            (
                with(|grant| {
                    grant.tls = MailTls::None;
                    (grant.user, grant.password) = (Some("u".into()), Some("env:PASSWORD".into()));
                }),
                Some(MailGrantError::PasswordInTheClear),
            ),
        ] {
            assert_eq!(got, want);
        }
        let port = |tls| check(&MailGrant { tls, ..grant(&[]) }).unwrap().port;
        assert_eq!([port(MailTls::Implicit), port(MailTls::Starttls), port(MailTls::None)], [465, 587, 25]);
    }
}
