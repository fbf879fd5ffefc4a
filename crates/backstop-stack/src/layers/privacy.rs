//! Who may see a call: private text is handed to the part of the chain that runs on the owner's machines, and to
//! nothing else. There is no exception for fallbacks, and where no local model is, the call fails closed.

use super::labels_of;
use crate::LayerInfo;
use backstop_call::{BoxFuture, Call, Failure, FailureKind, Model, Progress, Reply, Sink};
use backstop_label::{ModelPlace, NotSeen, may_see};
use std::sync::Arc;

/// What this layer is.
pub const INFO: LayerInfo =
    LayerInfo { name: "privacy", what: "private text goes to local models only, or nowhere" };

/// A chain, and the part of it that may see private text.
pub struct Paths {
    /// Over all targets.
    pub all: Arc<dyn Model>,
    /// Over the local targets; `None` when there are none.
    pub local: Option<Arc<dyn Model>>,
}

/// Which path a call takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Anybody may see it.
    All,
    /// Only local models may see it, for these categories.
    Local(NotSeen),
}

/// Puts the layer on a chain.
pub fn layer(paths: Paths) -> Arc<dyn Model> {
    Arc::new(Privacy { paths })
}

/// The decision, over the labels of everything in the request.
pub fn decide(call: &Call) -> Verdict {
    match may_see(&labels_of(call), ModelPlace::Cloud) {
        Ok(()) => Verdict::All,
        Err(not_seen) => Verdict::Local(not_seen),
    }
}

struct Privacy {
    paths: Paths,
}

impl Model for Privacy {
    fn call<'a>(&'a self, call: Call, sink: &'a mut dyn Sink) -> BoxFuture<'a, Result<Reply, Failure>> {
        match (decide(&call), &self.paths.local) {
            (Verdict::All, _) => self.paths.all.call(call, sink),
            (Verdict::Local(_), Some(local)) => local.call(call, sink),
            (Verdict::Local(not_seen), None) => {
                let categories: Vec<_> = not_seen.private.iter().map(ToString::to_string).collect();
                let message = format!(
                    "the request is private ({}) and no local model is in the chain",
                    categories.join(", ")
                );
                Box::pin(async move { Err(Failure::new(FailureKind::Private, Progress::NotSent, message)) })
            }
        }
    }
}
