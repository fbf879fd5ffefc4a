//! `backstop alerts`: what is wrong, who was told, and what people say to it.

use crate::args::Global;
use crate::complaint::Stop;
use crate::home::{Home, open_store, person};
use crate::ui::{Align, Look, Mark, Table, Tone, moment, out, shortened, tell};
use backstop_agent::visible_line;
use backstop_call::{Clock, Code, Seed, Timestamp};
use backstop_journal::event::{AlertAcknowledged, AlertFired, AlertUnsilenced, Severity};
use backstop_journal::projections::alerts::{Alert, Alerts, Notice};
use backstop_journal::{EventBody, Journal, StreamId};
use backstop_server::alerts::{self, Message, receivers, say};
use backstop_server::config::{Span, ThisProcess};
use backstop_stack::SystemClock;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::ExitCode;

/// Show what is wrong, and say what becomes of it
///
/// `backstop serve` looks at the rules and tells the receivers of the config (`[alerts]`); docs/alerts.md has all of it.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  backstop alerts
  backstop alerts list --past --json
  backstop alerts test ops                        Tell a receiver something, to see that it hears
  backstop alerts ack 5f1c9a                      Look after it: it is not repeated
  backstop alerts silence rule=queue --for 2h --reason \"a known job\"")]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// List what is wrong
    List {
        /// Also what is over, what waits to be told, and what nobody could be told
        #[arg(long)]
        past: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Tell receivers of the config something now, to see that they hear
    Test {
        /// Only this receiver
        #[arg(value_name = "RECEIVER")]
        receiver: Option<String>,
    },
    /// Say that you look after an alert: it is not repeated
    Ack {
        /// The alert; the beginning of its name is enough
        #[arg(value_name = "ALERT")]
        alert: String,
    },
    /// Tell nobody of alerts that fit, for a while
    Silence {
        /// What they say: `rule=NAME`, `severity=warning`, or a label like `model=main`
        #[arg(value_name = "NAME=VALUE", required = true)]
        fits: Vec<String>,
        /// For how long
        #[arg(long = "for", value_name = "SPAN", default_value = "1h")]
        span: Span,
        /// Why
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// End a silence
    Unsilence {
        /// The silence; the beginning of its name is enough
        #[arg(value_name = "SILENCE")]
        silence: String,
    },
}

pub(crate) async fn main(args: Args, global: &Global) -> Result<ExitCode, Stop> {
    let home = Home::find(global)?;
    match args.what.unwrap_or(What::List { past: false, json: false }) {
        What::List { past, json } => list(&home, past, json).await,
        What::Test { receiver } => test(&home, receiver.as_deref()).await,
        What::Ack { alert } => {
            let alerts = read(home.journal()?.as_ref()).await?;
            let alert = one("alert", &alert, alerts.firing.keys())?;
            write(&home, AlertAcknowledged { alert: alert.clone(), by: person() }.into()).await?;
            tell(format_args!("{alert} is yours; it is told again when it is over"));
            Ok(ExitCode::SUCCESS)
        }
        What::Silence { fits, span, reason } => silence(&home, &fits, span, reason).await,
        What::Unsilence { silence } => {
            let alerts = read(home.journal()?.as_ref()).await?;
            let silence = one("silence", &silence, alerts.silences.keys())?;
            write(&home, AlertUnsilenced { silence: silence.clone(), by: person() }.into()).await?;
            tell(format_args!("the silence {silence} is over"));
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn read(journal: &dyn Journal) -> Result<Alerts, Stop> {
    Ok(Alerts::fold(&journal.read(&StreamId::Alerts, 0).await?))
}

async fn write(home: &Home, event: EventBody) -> Result<(), Stop> {
    Ok(say(&open_store(&home.config.journal)?, event, SystemClock::new().now()).await?)
}

/// The one whose name begins so.
fn one<'a>(what: &str, prefix: &str, names: impl Iterator<Item = &'a String>) -> Result<&'a String, Stop> {
    let found: Vec<_> = names.filter(|name| name.starts_with(prefix)).collect();
    match found[..] {
        [one] => Ok(one),
        [] => Err(Stop::new(Code::Usage, format!("there is no {what} `{prefix}`"))
            .with_hint("see `backstop alerts`")),
        _ => Err(Stop::new(Code::Usage, format!("several begin with `{prefix}`"))
            .with_hint("give more of the name")),
    }
}

async fn silence(home: &Home, fits: &[String], span: Span, reason: String) -> Result<ExitCode, Stop> {
    let pair = |text: &String| {
        let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
        let (name, value) = pair.ok_or_else(|| {
            Stop::new(Code::Usage, format!("`{text}` is no NAME=VALUE")).with_hint("write it like rule=queue")
        })?;
        Ok((name.to_owned(), value.to_owned()))
    };
    let matchers = fits.iter().map(pair).collect::<Result<BTreeMap<_, _>, Stop>>()?;
    let silenced = alerts::silence(matchers, span.0, (person(), reason), SystemClock::new().now());
    write(home, silenced.clone().into()).await?;
    out(format_args!("{}\n", silenced.silence))?;
    tell(format_args!("nobody is told of such alerts until {} UTC", moment(silenced.until)));
    Ok(ExitCode::SUCCESS)
}

async fn list(home: &Home, past: bool, json: bool) -> Result<ExitCode, Stop> {
    let alerts = read(home.journal()?.as_ref()).await?;
    let now = SystemClock::new().now();
    if json {
        out(format_args!("{:#}\n", json_of(&alerts, past, now)))?;
        return Ok(ExitCode::SUCCESS);
    }
    let shown: Vec<&Alert> = alerts.firing.values().chain(alerts.past.values().filter(|_| past)).collect();
    if shown.is_empty() {
        tell(format_args!("{} nothing is wrong", Look::of_stderr().mark(Mark::Good)));
    } else {
        out(table(&alerts, &shown, now).render(Look::of_stdout()))?;
    }
    for silence in alerts.silences.values().filter(|silence| silence.until > now) {
        let fits: Vec<_> = silence.matchers.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let fits = visible_line(&fits.join(" "));
        tell(format_args!(
            "silence {}: {fits}, until {} UTC, by {}",
            silence.silence,
            moment(silence.until),
            silence.by
        ));
    }
    if past {
        let notices = alerts.outbox.values().chain(alerts.lost.values());
        for Notice { queued, at, lost } in notices {
            let state = lost
                .as_ref()
                .map_or("waits to be told".to_owned(), |why| format!("was given up: {}", visible_line(why)));
            tell(format_args!(
                "notice {} to {} of {} ({} UTC) {state}",
                queued.notice,
                queued.receiver,
                queued.group,
                moment(*at)
            ));
        }
    } else if !alerts.lost.is_empty() {
        tell("some receivers could not be told; see --past");
    }
    Ok(ExitCode::SUCCESS)
}

fn table(alerts: &Alerts, shown: &[&Alert], now: Timestamp) -> Table {
    let columns = [
        ("alert", Align::Left),
        ("severity", Align::Left),
        ("rule", Align::Left),
        ("since (utc)", Align::Left),
        ("state", Align::Left),
        ("what", Align::Left),
    ];
    let mut table = Table::new(&columns).spare(&["since (utc)"]);
    for alert in shown {
        let tone = match alert.fired.severity {
            Severity::Critical => Tone::Bad,
            Severity::Warning => Tone::Warn,
            Severity::Info => Tone::Plain,
        };
        table.row(vec![
            (Tone::Strong, alert.fired.alert.clone()),
            (tone, alert.fired.severity.as_str().to_owned()),
            (Tone::Plain, shortened(&visible_line(&alert.fired.rule), 30)),
            (Tone::Dim, moment(alert.since)),
            (Tone::Plain, state(alerts, alert, now)),
            (Tone::Plain, shortened(&visible_line(&alert.fired.summary), 100)),
        ]);
    }
    table
}

fn state(alerts: &Alerts, alert: &Alert, now: Timestamp) -> String {
    match (&alert.resolved, &alert.acknowledged) {
        (Some(at), _) => format!("over since {}", moment(*at)),
        (None, _) if alerts.silenced(&alert.fired, now).is_some() => "silenced".to_owned(),
        (None, Some(by)) => format!("with {by}"),
        (None, None) => "firing".to_owned(),
    }
}

fn json_of(alerts: &Alerts, past: bool, now: Timestamp) -> Value {
    let alert = |alert: &Alert| {
        json!({
            "alert": alert.fired.alert, "rule": alert.fired.rule, "severity": alert.fired.severity,
            "labels": alert.fired.labels, "summary": alert.fired.summary, "since": alert.since.rfc3339(),
            "resolved": alert.resolved.map(Timestamp::rfc3339), "acknowledged_by": alert.acknowledged,
            "silenced": alerts.silenced(&alert.fired, now).is_some(),
        })
    };
    let notice = |notice: &Notice| {
        json!({
            "notice": notice.queued.notice, "receiver": notice.queued.receiver, "rule": notice.queued.group,
            "at": notice.at.rfc3339(), "given_up": notice.lost,
        })
    };
    let list = |list: &BTreeMap<String, Alert>| list.values().map(alert).collect::<Vec<_>>();
    let silences: Vec<_> = alerts.silences.values().filter(|silence| silence.until > now).collect();
    let mut told = json!({"firing": list(&alerts.firing), "silences": silences});
    if past {
        told["past"] = json!(list(&alerts.past));
        told["outbox"] = json!(alerts.outbox.values().map(notice).collect::<Vec<_>>());
        told["lost"] = json!(alerts.lost.values().map(notice).collect::<Vec<_>>());
    }
    told
}

/// Tells receivers of an alert that there is none of, and of its end. Nothing of it stands in the journal.
async fn test(home: &Home, only: Option<&str>) -> Result<ExitCode, Stop> {
    let receivers = receivers(&home.config, &ThisProcess)?;
    let wanted: Vec<_> =
        receivers.iter().filter(|receiver| only.is_none_or(|name| receiver.name == name)).collect();
    if wanted.is_empty() {
        let stop = Stop::new(Code::Usage, "the config names no such receiver of alerts");
        return Err(stop.with_hint("add one under [[alerts.receivers]]; see docs/alerts.md"));
    }
    let now = SystemClock::new().now();
    let fired = AlertFired {
        alert: format!("test{:08x}", Seed::new(now.nanos()).next_u64() >> 32),
        rule: "test".to_owned(),
        severity: Severity::Info,
        labels: BTreeMap::new(),
        summary: format!("a test by {}: nothing is wrong", person()),
    };
    let look = Look::of_stderr();
    let mut failed = false;
    for receiver in wanted {
        let mut outcome = Ok(());
        for (step, resolved) in [("1", None), ("2", Some(now))] {
            let alert = Alert { fired: fired.clone(), since: now, resolved, acknowledged: None };
            let message = Message {
                notice: format!("{}-{step}", fired.alert),
                receiver: receiver.name.clone(),
                group: fired.rule.clone(),
                alerts: vec![alert],
            };
            outcome = receiver.tell(&message, now).await;
            if outcome.is_err() {
                break;
            }
        }
        match outcome {
            Ok(()) => tell(format_args!("{} {} was told", look.mark(Mark::Good), receiver.name)),
            Err(refused) => {
                failed = true;
                tell(format_args!(
                    "{} {}: {}",
                    look.mark(Mark::Bad),
                    receiver.name,
                    visible_line(&refused.reason)
                ));
            }
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
