//! Wrong keys, by the address that they came from: so many a minute, then the address is not heard for a while. What is
//! remembered is bounded.

use backstop_allowance::{Gcra, Rate};
use backstop_call::Timestamp;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Wrong keys of one address in a minute.
const WRONG_PER_MINUTE: u64 = 30;
/// Addresses that are remembered; beyond that the one is forgotten of which nothing came for the longest time.
const ADDRESSES_MAX: usize = 4_096;

/// Wrong keys, by where they came from.
#[derive(Debug, Default)]
pub(crate) struct Guesses(Mutex<HashMap<IpAddr, Wrong>>);

#[derive(Debug, Clone, Copy)]
struct Wrong {
    limit: Gcra,
    last: Timestamp,
}

impl Guesses {
    /// Whether a key from there is looked at now; the error is how long it is not.
    pub(crate) fn may_try(&self, from: IpAddr, now: Timestamp) -> Result<(), Duration> {
        let wrong = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&network(from)).copied();
        // On a copy: a try takes nothing, being wrong does.
        wrong.map_or(Ok(()), |mut wrong| wrong.limit.take(now, 1))
    }

    /// A wrong key came from there.
    pub(crate) fn note_wrong(&self, from: IpAddr, now: Timestamp) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let from = network(from);
        if !all.contains_key(&from) && all.len() >= ADDRESSES_MAX {
            let oldest = all.iter().min_by_key(|(_, wrong)| wrong.last).map(|(address, _)| *address);
            oldest.and_then(|address| all.remove(&address));
        }
        let fresh = || Wrong { limit: Gcra::new(Rate::per_minute(WRONG_PER_MINUTE)), last: now };
        let wrong = all.entry(from).or_insert_with(fresh);
        wrong.last = now;
        // Several that were looked at together may be more than there is room for: they are told apart by nobody.
        let _ = wrong.limit.take(now, 1);
    }
}

/// Whose address it is: of IPv6 one client has a whole network of 64 bits.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn so_many_wrong_keys_a_minute_and_each_address_for_itself() {
        let guesses = Guesses::default();
        let one = address("192.0.2.1");
        for n in 0..WRONG_PER_MINUTE {
            assert_eq!(guesses.may_try(one, START), Ok(()), "{n}");
            guesses.note_wrong(one, START);
        }
        let wait = Duration::from_secs(2);
        assert_eq!(guesses.may_try(one, START), Err(wait));
        assert_eq!(guesses.may_try(address("::ffff:192.0.2.1"), START), Err(wait), "the same address");
        assert_eq!(guesses.may_try(address("192.0.2.2"), START), Ok(()));
        assert_eq!(guesses.may_try(one, START + wait), Ok(()), "one more, and then another wait");
        guesses.note_wrong(one, START + wait);
        assert_eq!(guesses.may_try(one, START + wait), Err(wait));
        assert_eq!(guesses.may_try(one, START + Duration::from_mins(2)), Ok(()));
    }

    #[test]
    fn a_network_of_ipv6_is_one_client() {
        let guesses = Guesses::default();
        for n in 0..WRONG_PER_MINUTE {
            guesses.note_wrong(address(&format!("2001:db8:0:1::{n:x}")), START);
        }
        assert!(guesses.may_try(address("2001:db8:0:1:ffff::1"), START).is_err());
        assert!(guesses.may_try(address("2001:db8:0:2::1"), START).is_ok());
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_oldest_is_forgotten() {
        let guesses = Guesses::default();
        let at = |n: usize| IpAddr::V4(u32::try_from(n).unwrap().into());
        for n in 0..=ADDRESSES_MAX {
            let now = START + Duration::from_nanos(n as u64);
            (0..WRONG_PER_MINUTE).for_each(|_| guesses.note_wrong(at(n), now));
        }
        assert_eq!(guesses.0.lock().unwrap().len(), ADDRESSES_MAX);
        assert_eq!(guesses.may_try(at(0), START), Ok(()));
        assert!(guesses.may_try(at(1), START).is_err());
    }
}
