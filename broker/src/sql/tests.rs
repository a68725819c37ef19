use super::*;

const PROPERTIES: [(&str, &str); 5] = [
    ("a", "3"),
    ("b", "x"),
    ("t", "true"),
    ("d", "2.5"),
    ("$_1", "y'z"),
];

/// T, F, N (null) or E (the evaluation fails) of an expression with [`PROPERTIES`].
fn of(text: &str) -> char {
    let filter = Filter::compile(text).unwrap_or_else(|e| panic!("{text}: {e}"));
    verdict(&filter, text, &PROPERTIES)
}

fn verdict<'p>(filter: &'p Filter, text: &str, properties: &[(&str, &'p str)]) -> char {
    let property = |name: &str| -> Option<Cow<'p, str>> {
        let found = properties.iter().find(|(n, _)| *n == name);
        found.map(|(_, value)| (*value).into())
    };
    let value = match filter.0.value(&property) {
        Ok(Value::Bool(true)) => 'T',
        Ok(Value::Bool(false)) => 'F',
        Ok(Value::Null) => 'N',
        Ok(other) => panic!("{text} gives {other:?}"),
        Err(Failed) => 'E',
    };
    assert_eq!(filter.matches(&property), value == 'T', "{text}");
    value
}

#[test]
fn expressions_have_the_values_of_rocketmq() {
    for (text, value) in [
        ("a = 3", 'T'),
        ("a = 4", 'F'),
        ("a <> 4", 'T'),
        ("a > 2 AND a < 4", 'T'),
        ("a >= 3 and a <= 3", 'T'),
        ("a = 3L", 'T'),
        ("a > 99999999999", 'F'),
        ("d > 2.4", 'T'),
        ("d = 2.5E0", 'T'),
        // The string is read as the literal's type.
        ("d > 2", 'E'),
        ("a > 2.5", 'T'),
        ("b > 2", 'E'),
        ("b = 2", 'E'),
        ("b = 'x'", 'T'),
        ("b = 'X'", 'F'),
        ("a = d", 'F'),
        ("a > d", 'T'),
        ("a > b", 'E'),
        ("3 = a", 'T'),
        ("2.5 = d", 'T'),
        ("t = TRUE", 'T'),
        ("b = TRUE", 'F'),
        ("TRUE = t", 'E'),
        ("missing = 3", 'N'),
        ("3 = missing", 'F'),
        ("missing = missing", 'T'),
        ("missing > 3", 'N'),
        ("missing IS NULL", 'T'),
        ("a IS NULL", 'F'),
        ("a is not null", 'T'),
        ("missing IS NOT NULL", 'F'),
        ("NOT missing", 'N'),
        ("a", 'F'),
        ("t", 'F'),
        ("missing", 'N'),
        ("TRUE", 'T'),
        ("NULL", 'N'),
        ("NOT NULL", 'N'),
        ("NOT FALSE", 'T'),
        // Three-valued.
        ("missing = 1 OR TRUE", 'T'),
        ("missing = 1 OR FALSE", 'N'),
        ("missing = 1 AND FALSE", 'F'),
        ("missing = 1 AND TRUE", 'N'),
        ("FALSE AND b > 1", 'F'),
        ("TRUE OR b > 1", 'T'),
        ("b > 1 OR TRUE", 'E'),
        ("FALSE OR FALSE AND TRUE", 'F'),
        ("TRUE OR FALSE AND FALSE", 'T'),
        ("(TRUE OR FALSE) AND FALSE", 'F'),
        // NOT binds more tightly than a comparison.
        ("NOT a = 3", 'F'),
        ("NOT (a = 3)", 'F'),
        ("NOT (a = 4)", 'T'),
        ("a BETWEEN 1 AND 3", 'T'),
        ("a BETWEEN 4 AND 5", 'F'),
        ("a NOT BETWEEN 1 AND 2", 'T'),
        ("missing BETWEEN 1 AND 2", 'N'),
        ("a BETWEEN -5 AND -1", 'F'),
        ("-a = 3", 'N'),
        ("a > -1", 'T'),
        ("a > +1", 'T'),
        ("a = - - 3", 'T'),
        ("b IN ('x', 'y')", 'T'),
        ("b IN ('y')", 'F'),
        ("b NOT IN ('y')", 'T'),
        ("missing IN ('y')", 'N'),
        ("missing NOT IN ('y')", 'N'),
        ("b CONTAINS 'x'", 'T'),
        ("b NOT CONTAINS 'x'", 'F'),
        ("missing CONTAINS 'x'", 'F'),
        ("missing NOT CONTAINS 'x'", 'F'),
        ("b CONTAINS ''", 'F'),
        ("b NOT CONTAINS ''", 'F'),
        ("t STARTSWITH 'tr' AND t ENDSWITH 'ue'", 'T'),
        ("t NOT STARTSWITH 'x' AND t NOT ENDSWITH 'x'", 'T'),
        ("3 CONTAINS '3'", 'F'),
        ("$_1 = 'y''z'", 'T'),
        ("(a = 3) = (b = 'x')", 'T'),
        ("TRUE = FALSE", 'F'),
        ("1 = 1", 'T'),
        ("1 = 'a'", 'E'),
        ("'a' = 'a'", 'T'),
        // Not comparable: less.
        ("(a = 3) = 5", 'F'),
        ("a = 3 -- the rest\n AND b = 'x'", 'T'),
        ("a /* what */ = 3", 'T'),
        // What follows is not looked at, as long as it is a token.
        ("a = 3 b", 'T'),
        ("a = 3)", 'T'),
        ("a = 007", 'F'),
    ] {
        assert_eq!(of(text), value, "{text}");
    }
}

#[test]
fn what_rocketmq_refuses_is_refused() {
    for text in [
        "",
        "   ",
        "a =",
        "a = NULL",
        "NULL = a",
        "a > 'x'",
        "a > TRUE",
        "(a = 1) > 2",
        "TRUE = 1",
        "a BETWEEN 3 AND 1",
        "a BETWEEN 'x' AND 'y'",
        "a BETWEEN 1",
        "a IN (1)",
        "a IN ()",
        "3 IN ('x')",
        "a CONTAINS 3",
        "a IS 3",
        "5",
        "'x'",
        "-a",
        "a = 3 AND 5",
        "NOT 5",
        "a = 'x",
        "a # 3",
        "a = 3 #",
        "a = 99999999999999999999",
        "a > 0.0",
        "a > 1e999",
        "(a = 3",
        "ä = 3",
        "AND",
    ] {
        assert!(Filter::compile(text).is_err(), "{text}");
    }
}

#[test]
fn nesting_and_length_are_bounded() {
    let nested = |n: usize| format!("{}a = 1{}", "(".repeat(n), ")".repeat(n));
    assert!(Filter::compile(&nested(90)).is_ok());
    assert!(Filter::compile(&nested(5000)).is_err());
    assert!(Filter::compile(&"-".repeat(5000)).is_err());
    let chain = |n: usize| vec!["a = 3"; n].join(" AND ");
    assert_eq!(of(&chain(1000)), 'T');
    assert!(Filter::compile(&chain(7000)).is_err());
    assert!(Filter::compile(&format!("b = '{}'", "x".repeat(MAX_LENGTH))).is_err());
}

/// interop/golden/run asks RocketMQ's evaluator: `golden.txt`, or the file that `RAFTMQ_GOLDEN_FILTERS` names.
#[test]
fn random_expressions_have_the_verdicts_of_rocketmq() {
    let lines = match std::env::var("RAFTMQ_GOLDEN_FILTERS") {
        Ok(path) => std::fs::read_to_string(path).unwrap(),
        Err(_) => include_str!("golden.txt").to_owned(),
    };
    let mut wrong = Vec::new();
    let mut count = 0;
    for line in lines.lines() {
        let mut fields = line.splitn(3, '\t');
        let mut field = || fields.next().unwrap();
        let (expected, pairs, text) = (field(), field(), field());
        let properties: Vec<(String, String)> = pairs
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (decoded(name), decoded(value)))
            .collect();
        let properties: Vec<_> = properties
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_str()))
            .collect();
        let found = match Filter::compile(text) {
            Ok(filter) => verdict(&filter, text, &properties).to_string(),
            Err(_) => "X".to_owned(),
        };
        count += 1;
        if found != expected {
            wrong.push(format!("{text} of {pairs}: {found}, RocketMQ {expected}"));
        }
    }
    assert!(count > 0);
    assert!(
        wrong.is_empty(),
        "{} of {count} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// Bytes written as %XX.
fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).unwrap()
}
