//! Everything is written as `serde_json` writes it.

use super::write;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[derive(Serialize)]
enum Shape {
    Unit,
    Newtype(u8),
    Tuple(u8, &'static str),
    Struct { a: Option<u8>, b: () },
}

#[derive(Serialize)]
struct Unit;

#[derive(Serialize)]
struct Newtype(i64);

#[derive(Serialize)]
struct Tuple(i8, u16, i32);

#[derive(Serialize)]
struct Empty {}

#[track_caller]
fn same<T: Serialize + ?Sized>(value: &T) {
    let mut text = String::new();
    write(&mut text, value).unwrap();
    assert_eq!(text, serde_json::to_string(value).unwrap());
}

#[test]
fn every_shape() {
    same(&[Shape::Unit, Shape::Newtype(1), Shape::Tuple(2, "x"), Shape::Struct { a: None, b: () }]);
    same(&Shape::Struct { a: Some(3), b: () });
    same(&(Unit, Newtype(-1), Tuple(-128, 65_535, i32::MIN), Empty {}, 'ä', '"', true, false));
    same(&(u64::MAX, i64::MIN, u128::MAX, i128::MIN));
    same(&(0.1_f64, -0.0_f64, 1e300_f64, f64::NAN, f64::INFINITY, 0.1_f32, 5.0_f64));
    same(&(Vec::<u8>::new(), BTreeMap::<String, u8>::new(), serde_json::Map::new()));
    same(&json!({"a": [1, -2, 3.5, null, {"": []}], "b\n\"": {"c": true}}));
}

#[test]
fn every_kind_of_key() {
    same(&BTreeMap::from([("a\\", 1), ("b", 2)]));
    same(&BTreeMap::from([(1, 1), (-20, 2)]));
    same(&BTreeMap::from([(true, 1), (false, 2)]));
    same(&BTreeMap::from([('\n', 1)]));
    for bad in [BTreeMap::from([(vec![1], 1)]), BTreeMap::from([(vec![], 1)])] {
        let mut text = "before".to_owned();
        assert!(write(&mut text, &bad).is_err() && serde_json::to_string(&bad).is_err());
        assert_eq!(text, "before");
    }
    assert!(write(&mut String::new(), &BTreeMap::from([((), 1)])).is_err());
    assert!(write(&mut String::new(), &BTreeMap::from([(None::<u8>, 1)])).is_err());
}

/// Every byte at every place of the words that are looked at together, and behind them.
#[test]
fn every_escape_wherever_it_stands() {
    for code in (0..=0xff).chain([0x7ff, 0x2028, 0xffff, 0x0001_f600]).filter_map(char::from_u32) {
        for before in 0..18 {
            for after in [0, 1, 7, 8, 9] {
                same(&format!("{}{code}{}", "a".repeat(before), "b".repeat(after)));
                same(&format!("{}{code}{code}{}", "ü".repeat(before), "\u{1}".repeat(after)));
            }
        }
    }
    same(&Value::from("\"\\\u{8}\u{c}\n\r\t\u{0}\u{1f} \u{7f}\u{80}"));
}
