//! Mail that Backstop itself sends, to people whom its owner named: by the same server and rules as a model's.

use super::deliver::deliver;
use super::grant::{Granted, MailGrant, MailGrantError};
use super::message::{Args, Draft};
use backstop_agent::ToolError;
use backstop_call::Secret;

/// The longest subject, in characters.
const SUBJECT_MAX_CHARS: usize = 200;

/// Sends mail to all recipients of a grant.
pub struct Postman {
    granted: Granted,
    to: Vec<String>,
}

impl Postman {
    /// A postman for the recipients of a grant, who are addresses and no patterns.
    ///
    /// # Errors
    /// As a grant's; `Recipient` also for a pattern, and for nobody.
    pub fn new(
        grant: &MailGrant,
        secret: &dyn Fn(&str) -> Result<Secret, String>,
    ) -> Result<Self, MailGrantError> {
        let granted = Granted::check(grant, secret)?;
        let nobody = || MailGrantError::Recipient(String::new());
        let pattern = grant.recipients.iter().find(|text| granted.recipient(text).is_err());
        match pattern {
            Some(pattern) => Err(MailGrantError::Recipient(pattern.clone())),
            None if grant.recipients.is_empty() => Err(nobody()),
            None => Ok(Self { granted, to: grant.recipients.clone() }),
        }
    }

    /// Sends a text, with a message id that is made from `key`. The error is for people.
    pub async fn send(&self, subject: &str, body: &str, key: &str) -> Result<(), String> {
        let args = Args {
            to: self.to.clone(),
            cc: Vec::new(),
            bcc: Vec::new(),
            subject: subject.chars().take(SUBJECT_MAX_CHARS).collect(),
            body: body.to_owned(),
            attachments: Vec::new(),
        };
        let draft = Draft::read(&self.granted, args, None)?;
        let (envelope, message) = draft.message(&self.granted.from, key)?;
        deliver(&self.granted, &envelope, &message).await.map_err(|error| match error {
            ToolError::Failed(why) | ToolError::Unknown(why) => why,
        })
    }
}
