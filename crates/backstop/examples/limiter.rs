//! The rate limiter alone: tokens per minute, estimated before the call and settled after it.

use backstop::allowance::{Gcra, Rate};
use backstop::call::Timestamp;
use std::time::Duration;

fn main() {
    let now = Timestamp::from_secs(1_800_000_000);
    let mut tokens = Gcra::new(Rate::per_minute(60_000));

    // A call is estimated at the whole minute's share. The next one must wait.
    assert_eq!(tokens.take(now, 60_000), Ok(()));
    assert_eq!(tokens.take(now, 1_000), Err(Duration::from_secs(1)));

    // It used a tenth of that: the rest comes back at once.
    tokens.settle(60_000, 6_000);
    assert_eq!(tokens.take(now, 54_000), Ok(()));

    // The provider says that less is left than we think. Its word can only lower what is left.
    let later = now + Duration::from_mins(1);
    tokens.cap(later, 500);
    assert_eq!(tokens.take(later, 500), Ok(()));
    assert!(tokens.take(later, 1).is_err());
}
