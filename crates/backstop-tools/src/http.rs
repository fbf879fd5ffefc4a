//! Requests by HTTP/1.1 to hosts that the owner names.
//!
//! There are three tools, because a tool has one class and a class must never be understated:
//!
//! - `http_get`: GET and HEAD. A read: after a crash it is asked again.
//! - `http_request`: POST, PUT, PATCH, DELETE. Irreversible: nothing on the other side can be taken back from here, so it
//!   asks a person by default, and is in doubt after a crash. DELETE counts as destructive.
//! - `http_request_keyed`: the same for methods that the owner declares (`keyed`) to be done once per key by that host.
//!   Idempotent: after a crash it is sent again under the same key. What is keyed goes through this tool only.
//!
//! All three reach outside, with `url` as the sink, and what they give is untrusted. A tool for which nothing is granted is
//! not made, so no model sees it.
//!
//! **Where a request may go.** A host by its exact name or `*.` and what it lies below, by scheme and port, with methods and
//! beginnings of paths. One parser (the URL standard's) reads the address, and what it made of it is what is compared,
//! resolved, shown and sent: odd spellings of addresses, of names and of paths come out as what they mean; users and
//! passwords, trailing dots, backslashes and spaces are refused, as are paths whose segments a server may see otherwise.
//! The name is resolved once, every address is checked, and the connection goes to an address that was checked. Private
//! addresses only where the host's grant says so; link-local, multicast, reserved and clouds' metadata addresses never. No
//! proxy is used.
//!
//! **Redirects** of a GET or HEAD are followed so often and no more, each checked like a first request. Others are told
//! to the model, and not followed.
//!
//! **Headers.** The owner's are references to secrets and go to the host they stand at and to no other, also on redirects;
//! the model sees their names at most, and their values are taken out of what comes back. The model sets the ones that the
//! grant names, never those that decide where a request goes or as whom, and they are left out once a redirect leaves for
//! another origin. Compression is not asked for.
//!
//! **What is unknown.** A connection that was never made is a failure. Once a request was begun that is no read, a timeout
//! or a lost connection before the answer's head is unknown. An answer whose body is too long, too slow or cut is an answer:
//! it is given as far as it came, with why it ends.

pub(crate) mod address;
mod exchange;
mod grant;
mod granted;
mod network;
mod target;
mod tools;

pub use grant::{HostGrant, HttpGrant, HttpGrantError, HttpMethod};
pub use network::{Network, Resolve, SystemResolver};

use backstop_agent::Tool;
use backstop_call::Secret;
use granted::{Granted, Manner};
use std::sync::Arc;
use tools::{HttpTool, Kind};

/// The tools that a grant gives: those of `http_get`, `http_request` and `http_request_keyed` that it has any use for.
/// `secret` gives the value of a reference in [`HostGrant::headers`], or says why there is none, without repeating it.
pub fn http_tools(
    grant: &HttpGrant,
    secret: &dyn Fn(&str) -> Result<Secret, String>,
    network: &Network,
) -> Result<Vec<Arc<dyn Tool>>, HttpGrantError> {
    let granted = Arc::new(Granted::check(grant, secret)?);
    let kinds = [
        (Kind::Get, granted.is_of_use(Manner::Plain, true)),
        (Kind::Request, granted.is_of_use(Manner::Plain, false)),
        (Kind::Keyed, granted.is_of_use(Manner::Keyed, false)),
    ];
    let tool = |kind| Arc::new(HttpTool::new(kind, Arc::clone(&granted), network.clone())) as Arc<dyn Tool>;
    Ok(kinds.into_iter().filter(|(_, is_of_use)| *is_of_use).map(|(kind, _)| tool(kind)).collect())
}
