//! Which chain a call goes to: by the name that was asked for. A name that config does not define is refused with the
//! names that it does.

use crate::LayerInfo;
use backstop_call::{BoxFuture, Call, Code, Failure, FailureKind, Model, ModelName, Progress, Reply, Sink};
use std::collections::HashMap;
use std::sync::Arc;

/// What this layer is.
pub const INFO: LayerInfo =
    LayerInfo { name: "route", what: "finds the chain that the call asks for by name" };

/// Puts the layer on the chains, in the order they are to be listed.
pub fn layer(chains: Vec<(ModelName, Arc<dyn Model>)>) -> Arc<dyn Model> {
    let names: Vec<_> = chains.iter().map(|(name, _)| name.to_string()).collect();
    let chains = chains.into_iter().map(|(name, chain)| (name.to_string(), chain)).collect();
    Arc::new(Route { chains, known: names.join(", ") })
}

struct Route {
    chains: HashMap<String, Arc<dyn Model>>,
    known: String,
}

impl Model for Route {
    fn call<'a>(&'a self, call: Call, sink: &'a mut dyn Sink) -> BoxFuture<'a, Result<Reply, Failure>> {
        if let Some(chain) = self.chains.get(&call.request.model) {
            return chain.call(call, sink);
        }
        let message = match self.known.as_str() {
            "" => format!("there is no model `{}`, and none is defined", call.request.model),
            known => format!("there is no model `{}`; there are: {known}", call.request.model),
        };
        let failure = Failure::new(FailureKind::Invalid, Progress::NotSent, message);
        Box::pin(async move { Err(failure.with_code(Code::UnknownModel)) })
    }
}
