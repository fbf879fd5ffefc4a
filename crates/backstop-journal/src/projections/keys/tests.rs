//! What becomes of keys, event by event.

use super::*;
use crate::event::{KeyFirstUsedFrom, KeyRevoked};
use crate::{Hash, StreamId};
use std::time::Duration;

const fn at(secs: u64) -> Timestamp {
    Timestamp::from_secs(secs)
}

fn created(key: &str, secret: &str) -> EventBody {
    let (hash, prefix) = (KeyHash::of(secret), secret.to_owned());
    KeyCreated { key: key.into(), hash, prefix, scope: KeyScope::default(), by: "ann".into() }.into()
}

fn rotated(secret: &str, old_until: u64) -> EventBody {
    let (hash, prefix) = (KeyHash::of(secret), secret.to_owned());
    KeyRotated { key: "k".into(), hash, prefix, old_until: at(old_until), by: "ann".into() }.into()
}

fn revoked(by: &str) -> EventBody {
    KeyRevoked { key: "k".into(), by: by.into() }.into()
}

fn used_from(address: &str) -> EventBody {
    KeyFirstUsedFrom { key: "k".into(), address: address.parse().unwrap() }.into()
}

/// Each event a second after the one before.
fn fold(bodies: &[EventBody]) -> Keys {
    let events: Vec<_> = (1..)
        .zip(bodies)
        .map(|(seq, body)| Event {
            position: seq,
            stream: StreamId::Keys,
            seq,
            at: at(seq),
            epoch: 0,
            body: body.clone(),
            hash: Hash::default(),
        })
        .collect();
    Keys::fold(&events)
}

fn key(bodies: &[EventBody]) -> KeyRecord {
    fold(bodies).get(&"k".into()).unwrap().clone()
}

fn replaced(secret: &str, until: u64) -> Replaced {
    Replaced { prefix: secret.into(), hash: KeyHash::of(secret), until: at(until) }
}

#[test]
fn a_key_is_what_its_events_say() {
    let fresh = key(&[created("k", "a")]);
    assert_eq!((fresh.hash, fresh.created, fresh.created_by.as_str()), (KeyHash::of("a"), at(1), "ann"));
    let wanted = KeyRecord {
        prefix: "b".into(),
        hash: KeyHash::of("b"),
        secret_since: at(2),
        replaced: vec![replaced("a", 100)],
        ..fresh.clone()
    };
    assert_eq!(key(&[created("k", "a"), rotated("b", 100)]), wanted);
    let first = Some(Revoked { at: at(2), by: "ann".into() });
    assert_eq!(
        key(&[created("k", "a"), revoked("ann"), revoked("bob")]),
        KeyRecord { revoked: first, ..fresh }
    );
}

#[test]
fn the_first_key_of_a_name_has_it_for_good() {
    let events =
        [created("k", "a"), created("k", "b"), created("other", "c"), revoked("ann"), created("k", "d")];
    let keys = fold(&events);
    assert_eq!(keys.seq(), 5);
    assert_eq!(keys.iter().map(|key| key.key.as_str()).collect::<Vec<_>>(), ["k", "other"]);
    let key = keys.get(&"k".into()).unwrap();
    assert_eq!((key.hash, key.standing(at(9))), (KeyHash::of("a"), Standing::Revoked));
}

#[test]
fn a_rotation_without_overlap_ends_every_secret_before() {
    let two = [created("k", "a"), rotated("b", 100), rotated("c", 200)];
    assert_eq!(key(&two).replaced, [replaced("a", 100), replaced("b", 200)], "none is good for longer");
    let cut = [two.as_slice(), &[rotated("d", 4)]].concat();
    assert_eq!(key(&cut).replaced, [replaced("a", 4), replaced("b", 4), replaced("c", 4)]);
}

#[test]
fn what_is_said_of_a_key_that_is_not_there_means_nothing() {
    let keys = fold(&[rotated("b", 100), revoked("ann"), used_from("192.0.2.7")]);
    assert_eq!((keys.seq(), keys.iter().count()), (3, 0));
}

#[test]
fn how_a_key_stands() {
    let mut record = key(&[created("k", "a")]);
    assert_eq!(record.standing(Timestamp::FAR), Standing::Active);
    record.scope.expires = Some(at(50));
    assert_eq!(record.standing(at(50) - Duration::from_nanos(1)), Standing::Active);
    assert_eq!(record.standing(at(50)), Standing::Expired);
    record.revoked = Some(Revoked { at: at(60), by: "ann".into() });
    assert_eq!(record.standing(at(60)), Standing::Revoked);
}

#[test]
fn an_address_is_new_once() {
    // address, whether it is new
    let rows = [
        ("192.0.2.7", true),
        ("192.0.2.7", false),
        ("::ffff:192.0.2.7", false),
        ("192.0.2.8", true),
        ("2001:db8::1", true),
        ("2001:db8::2", false),
        ("2001:db8:0:1::1", true),
    ];
    let mut addresses = Addresses::default();
    for (address, new) in rows {
        let address = address.parse().unwrap();
        assert_eq!(addresses.is_new(address), new, "{address}");
        assert_eq!(addresses.note(address), new, "{address}");
    }
    let folded = key(&[created("k", "a"), used_from("192.0.2.7"), used_from("192.0.2.7")]);
    assert_eq!(folded.addresses.len(), 1);
}

#[test]
fn what_is_remembered_of_a_key_is_bounded() {
    let mut addresses = Addresses::default();
    let told = (0..5_000_u32).filter(|n| addresses.note(IpAddr::V4((*n).into()))).count();
    assert_eq!((told, addresses.len()), (ADDRESSES_MAX, ADDRESSES_MAX));
    let rotations: Vec<_> = (0..20).map(|n| rotated(&n.to_string(), 100)).collect();
    let old = key(&[vec![created("k", "a")], rotations].concat()).replaced;
    let prefixes: Vec<_> = old.iter().map(|old| old.prefix.as_str()).collect();
    assert_eq!(prefixes, ["11", "12", "13", "14", "15", "16", "17", "18"]);
}
