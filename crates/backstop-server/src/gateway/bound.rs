//! What a provider keeps for a client: message threads, and the responses that others follow. A request that goes on with one
//! is answered by the target that has it or by nobody; for a target that keeps none the client is told so in the words on
//! which it recovers by itself. A part of a conversation is never sent on as if it were the whole.

use super::names::Link;
use backstop_call::{Code, Dialect, Failure, FailureKind, KeyName, Progress, ProviderName};
use backstop_wire::LeansOn;
use std::collections::{HashMap, VecDeque};

/// Messages whose target is remembered; the oldest is forgotten first, and then the provider says whether it knows it.
const REMEMBERED_MAX: usize = 10_000;

/// Which target a request is bound to: its provider, and the model there.
pub(crate) type Bound = (ProviderName, String);

/// Who wrote a message, and for which key: with another key it is not there.
#[derive(Debug)]
struct Written {
    by: Bound,
    key: Option<KeyName>,
}

/// Who wrote which message of a thread.
#[derive(Debug, Default)]
pub(crate) struct Threads {
    written: HashMap<String, Written>,
    order: VecDeque<String>,
}

impl Threads {
    /// Remembers who wrote a message, and for which key.
    pub(crate) fn note(&mut self, message: &str, by: Bound, key: Option<KeyName>) {
        if message.is_empty() {
            return;
        }
        if self.written.insert(message.to_owned(), Written { by, key }).is_none() {
            self.order.push_back(message.to_owned());
        }
        while self.order.len() > REMEMBERED_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.written.remove(&oldest);
            }
        }
    }

    /// Where a request with a thread must go, among the links of its chain, when it comes with this key.
    pub(crate) fn bind(
        &self,
        leans_on: &LeansOn,
        links: &[Link],
        key: Option<&KeyName>,
    ) -> Result<Bound, Failure> {
        let keeps = |link: &&Link| link.threads && link.dialect == Dialect::Messages;
        let first = links.iter().find(keeps).map(Link::bound);
        match leans_on {
            LeansOn::ThreadBegins => first.ok_or_else(unsupported),
            LeansOn::Thread(message) => match self.written.get(message) {
                Some(written) if written.key.as_ref() != key => Err(not_found()),
                Some(written) if is_among(&written.by, links) => Ok(written.by.clone()),
                Some(_) => Err(not_found()),
                // After a restart nobody remembers; the provider knows its own messages.
                None => first.ok_or_else(not_found),
            },
            LeansOn::Response(response) => {
                let speaks = |link: &&Link| link.dialect == Dialect::Responses;
                let first = links.iter().find(speaks).map(Link::bound);
                let known = match self.written.get(response) {
                    // Another key's conversation is nobody else's, whoever holds it.
                    Some(written) if written.key.as_ref() != key => return Err(no_response()),
                    Some(written) if is_among(&written.by, links) => Some(written.by.clone()),
                    Some(_) => return Err(no_response()),
                    None => None,
                };
                known.or(first).ok_or_else(no_response)
            }
        }
    }
}

impl Link {
    fn bound(&self) -> Bound {
        (self.provider.clone(), self.model.clone())
    }
}

fn is_among((provider, model): &Bound, links: &[Link]) -> bool {
    links.iter().any(|link| link.provider == *provider && link.model == *model)
}

/// What a client is told when the target of its thread failed: the conversation can be had whole, and then goes anywhere.
pub(crate) fn released(leans_on: &LeansOn, failure: Failure, links: &[Link]) -> Failure {
    let is_clients = matches!(
        failure.kind,
        FailureKind::Invalid | FailureKind::ContextLength | FailureKind::Policy | FailureKind::Cancelled
    );
    let has_money_or_time =
        !matches!(failure.kind, FailureKind::Budget | FailureKind::Deadline | FailureKind::Private);
    if is_clients || !has_money_or_time || links.len() < 2 || failure.progress == Progress::Committed {
        return failure;
    }
    let mut told = match leans_on {
        LeansOn::ThreadBegins => unsupported(),
        LeansOn::Thread(_) => not_found(),
        // No client sends a conversation of Responses whole by itself.
        LeansOn::Response(_) => return failure,
    };
    told.detail.attempts = failure.detail.attempts;
    told
}

/// On this the official SDKs go on without threads.
fn unsupported() -> Failure {
    told(400, "thread_unsupported_request", "the model that answers here keeps no message threads")
}

/// On this the official SDKs send the conversation whole.
fn not_found() -> Failure {
    told(404, "thread_not_found", "no thread with this message is known here; send the conversation whole")
}

fn no_response() -> Failure {
    let message = "no model that answers here keeps responses; send the conversation whole in `input`";
    told(400, "previous_response_not_found", message)
}

fn told(status: u16, code: &str, message: &str) -> Failure {
    let mut failure =
        Failure::new(FailureKind::Invalid, Progress::NotSent, message).with_code(Code::RequestInvalid);
    failure.detail.status = Some(status);
    failure.detail.provider_code = Some(code.to_owned());
    failure
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(provider: &str, dialect: Dialect, threads: bool) -> Link {
        Link { provider: provider.into(), model: "m".to_owned(), dialect, threads }
    }

    #[test]
    fn a_thread_keeps_to_who_began_it() {
        let links = [
            link("plain", Dialect::Messages, false),
            link("a", Dialect::Messages, true),
            link("b", Dialect::Messages, true),
        ];
        let mut threads = Threads::default();
        let goes_on = LeansOn::Thread("msg_1".to_owned());
        let bound = |provider: &str| (ProviderName::from(provider), "m".to_owned());
        let bind =
            |threads: &Threads, leans_on: &LeansOn, links: &[Link]| threads.bind(leans_on, links, None);
        assert_eq!(bind(&threads, &LeansOn::ThreadBegins, &links), Ok(bound("a")));
        assert_eq!(bind(&threads, &goes_on, &links), Ok(bound("a")), "unknown: the provider decides");
        threads.note("msg_1", bound("b"), None);
        assert_eq!(bind(&threads, &goes_on, &links), Ok(bound("b")));
        let code = |result: Result<Bound, Failure>| result.unwrap_err().detail.provider_code.unwrap();
        assert_eq!(code(bind(&threads, &goes_on, &links[..2])), "thread_not_found", "b left the chain");
        assert_eq!(code(bind(&threads, &LeansOn::ThreadBegins, &links[..1])), "thread_unsupported_request");
        let (mine, yours) = (KeyName::from("mine"), KeyName::from("yours"));
        threads.note("msg_1", bound("b"), Some(mine.clone()));
        assert_eq!(threads.bind(&goes_on, &links, Some(&mine)), Ok(bound("b")));
        assert_eq!(code(threads.bind(&goes_on, &links, Some(&yours))), "thread_not_found");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut threads = Threads::default();
        for n in 0..=REMEMBERED_MAX {
            threads.note(&format!("msg_{n}"), ("a".into(), "m".to_owned()), None);
        }
        assert_eq!((threads.written.len(), threads.order.len()), (REMEMBERED_MAX, REMEMBERED_MAX));
        assert!(!threads.written.contains_key("msg_0"));
    }

    #[test]
    fn a_target_that_failed_lets_the_client_go_elsewhere() {
        let links = [link("a", Dialect::Messages, true), link("b", Dialect::Chat, false)];
        let failed = |kind| Failure::new(kind, Progress::ResponseStarted, "it failed");
        let code =
            |kind, links: &[Link]| released(&LeansOn::ThreadBegins, failed(kind), links).detail.provider_code;
        assert_eq!(code(FailureKind::Overloaded, &links).as_deref(), Some("thread_unsupported_request"));
        assert_eq!(code(FailureKind::Overloaded, &links[..1]), None, "there is nobody else");
        assert_eq!(code(FailureKind::Invalid, &links), None, "it is the client's fault");
        assert_eq!(code(FailureKind::Budget, &links), None);
    }
}
