//! The talk with the server. Knows of every way in which it ends whether the message may have been taken.

use super::grant::{Granted, MailTls};
use backstop_agent::ToolError;
use lettre::address::Envelope;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, CertificateStore, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

/// How long a server is given to say good-bye.
const GOODBYE: Duration = Duration::from_secs(1);

/// Sends a message to all its recipients, or to none.
pub(super) async fn deliver(granted: &Granted, envelope: &Envelope, message: &[u8]) -> Result<(), ToolError> {
    let deadline = Instant::now() + granted.timeout;
    let late = |_| {
        Err(ToolError::Failed(
            "The mail server did not answer in time; nothing was sent. Try again later.".to_owned(),
        ))
    };
    let ready = timeout_at(deadline, ready(granted, envelope)).await;
    let mut connection = ready.unwrap_or_else(late)?;
    // From here on the server may take it, whatever we hear.
    match timeout_at(deadline, connection.message(message)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) if error.status().is_some() => {
            return Err(failed(granted, "refuses the message", &error));
        }
        Ok(Err(_)) => {
            return Err(unknown("the connection to the mail server was lost"));
        }
        Err(_) => return Err(unknown("the mail server did not answer in time")),
    }
    // It has the message; whether it says good-bye does not matter.
    let _ = timeout(GOODBYE, connection.quit()).await;
    Ok(())
}

/// A connection on which the message can be sent at once: every recipient was accepted.
async fn ready(granted: &Granted, envelope: &Envelope) -> Result<AsyncSmtpConnection, ToolError> {
    let mut connection = connect(granted).await.map_err(|error| failed(granted, "cannot be used", &error))?;
    let mail = connection.command(Mail::new(envelope.from().cloned(), Vec::new())).await;
    mail.map_err(|error| failed(granted, "refuses the sender", &error))?;
    for recipient in envelope.to() {
        let accepted = connection.command(Rcpt::new(recipient.clone(), Vec::new())).await;
        accepted.map_err(|error| failed(granted, &format!("refuses {recipient}"), &error))?;
    }
    let data = connection.command(Data).await;
    data.map_err(|error| failed(granted, "refuses to take a message", &error))?;
    Ok(connection)
}

async fn connect(granted: &Granted) -> Result<AsyncSmtpConnection, Error> {
    let tls = || {
        let parameters = TlsParameters::builder(granted.server.clone());
        parameters.certificate_store(CertificateStore::WebpkiRoots).build_rustls()
    };
    let name = ClientId::Domain(granted.from.email.domain().to_owned());
    let implicit = if granted.tls == MailTls::Implicit { Some(tls()?) } else { None };
    let address = (granted.server.as_str(), granted.port);
    let mut connection =
        AsyncSmtpConnection::connect_tokio1(address, Some(granted.timeout), &name, implicit, None).await?;
    if granted.tls == MailTls::Starttls {
        connection.starttls(tls()?, &name).await?;
    }
    if let Some((user, password)) = &granted.login {
        let credentials = Credentials::new(user.clone(), password.expose().to_owned());
        connection.auth(&[Mechanism::Plain, Mechanism::Login], &credentials).await?;
    }
    Ok(connection)
}

fn failed(granted: &Granted, what: &str, error: &Error) -> ToolError {
    let hint = if error.is_transient() {
        "Try again later."
    } else {
        "Correct it, or say that it could not be sent."
    };
    let said = granted.scrub(&error.to_string());
    ToolError::Failed(format!("The mail server {what}: {said}. Nothing was sent. {hint}"))
}

fn unknown(why: &str) -> ToolError {
    ToolError::Unknown(format!("the message was on its way when {why}; it may have been sent"))
}
