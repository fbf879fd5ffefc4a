//! What this process is asked by signals: to end (Ctrl-C, or SIGTERM as a service manager sends it; both mean the same), and to
//! read its config anew (SIGHUP). Whoever listens hears all that comes from then on, also while it is busy with something else.
//! A system that cannot tell is waited on for ever: the process can still be killed.

#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Hears that this process is to end.
pub(crate) struct Ends {
    #[cfg(unix)]
    terminate: Option<Signal>,
    #[cfg(unix)]
    interrupt: Option<Signal>,
}

impl Ends {
    /// Listens from now on.
    pub(crate) fn listen() -> Self {
        Self {
            #[cfg(unix)]
            terminate: signal(SignalKind::terminate()).ok(),
            #[cfg(unix)]
            interrupt: signal(SignalKind::interrupt()).ok(),
        }
    }

    /// Waits until somebody asks.
    pub(crate) async fn asked(&mut self) {
        #[cfg(unix)]
        tokio::select! {
            () = next(&mut self.terminate) => {}
            () = next(&mut self.interrupt) => {}
        }
        #[cfg(not(unix))]
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Hears that this process is to read its config anew.
pub(crate) struct Reloads {
    #[cfg(unix)]
    hangup: Option<Signal>,
}

impl Reloads {
    /// Listens from now on.
    pub(crate) fn listen() -> Self {
        Self {
            #[cfg(unix)]
            hangup: signal(SignalKind::hangup()).ok(),
        }
    }

    /// Waits until somebody asks. Those who ask while nobody waits are heard as one.
    pub(crate) async fn asked(&mut self) {
        #[cfg(unix)]
        next(&mut self.hangup).await;
        #[cfg(not(unix))]
        std::future::pending::<()>().await;
    }
}

#[cfg(unix)]
async fn next(signal: &mut Option<Signal>) {
    if let Some(signal) = signal
        && signal.recv().await.is_some()
    {
        return;
    }
    std::future::pending::<()>().await;
}

/// Waits until somebody asks this process to end, from now on.
pub(crate) async fn asked_to_end() {
    Ends::listen().asked().await;
}
