//! The grammar, by recursive descent. From the weakest: OR, AND, equality and IS, order and its kin, signs and NOT. So `NOT a = b` is
//! `(NOT a) = b`, as in RocketMQ.

use super::lex::{self, Token};
use super::value::{self, Value};
use super::{Comparison, Expr, SqlError, TextTest};

/// Parentheses, signs and NOTs within each other at most; and parts of an expression. Evaluation recurses as deep.
const MAX_DEPTH: usize = 100;
const MAX_PARTS: usize = 4096;

/// Parses as much of `text` as is an expression.
///
/// # Errors
/// There is none at its start.
pub fn parse(text: &str) -> Result<Expr, SqlError> {
    let mut parser = Parser {
        rest: text,
        ahead: None,
        depth: 0,
        parts: 0,
    };
    let expr = parser.or()?;
    truth(expr)
}

struct Parser<'t> {
    /// What follows `ahead`.
    rest: &'t str,
    /// A token that was looked at and not taken.
    ahead: Option<Token>,
    depth: usize,
    parts: usize,
}

impl<'t> Parser<'t> {
    fn peek(&mut self) -> Result<&Token, SqlError> {
        if self.ahead.is_none() {
            let (token, rest) = lex::next(self.rest)?;
            self.rest = rest;
            self.ahead = Some(token);
        }
        Ok(self.ahead.as_ref().unwrap_or(&Token::End))
    }

    fn take(&mut self) -> Result<Token, SqlError> {
        self.peek()?;
        Ok(self.ahead.take().unwrap_or(Token::End))
    }

    fn word(&mut self, word: &str) -> Result<bool, SqlError> {
        let found = matches!(self.peek()?, Token::Word(w) if *w == word);
        if found {
            self.take()?;
        }
        Ok(found)
    }

    fn sign(&mut self, sign: &str) -> Result<bool, SqlError> {
        let found = matches!(self.peek()?, Token::Sign(s) if *s == sign);
        if found {
            self.take()?;
        }
        Ok(found)
    }

    fn expect_sign(&mut self, sign: &str) -> Result<(), SqlError> {
        match self.sign(sign)? {
            true => Ok(()),
            false => Err(self.unexpected(sign)),
        }
    }

    fn unexpected(&mut self, wanted: &str) -> SqlError {
        let found = self.ahead.take().unwrap_or(Token::End);
        SqlError::new(format!("{wanted} is expected, not {found:?}"))
    }

    fn text(&mut self) -> Result<String, SqlError> {
        match self.take()? {
            Token::Text(text) => Ok(text),
            other => Err(SqlError::new(format!(
                "a string is expected, not {other:?}"
            ))),
        }
    }

    fn count(&mut self) -> Result<(), SqlError> {
        self.parts += 1;
        match self.parts > MAX_PARTS {
            true => Err(SqlError::new(format!("more than {MAX_PARTS} parts"))),
            false => Ok(()),
        }
    }

    fn or(&mut self) -> Result<Expr, SqlError> {
        let first = self.and()?;
        self.joined(first, "OR", Self::and, Expr::Or)
    }

    fn and(&mut self) -> Result<Expr, SqlError> {
        let first = self.equality()?;
        self.joined(first, "AND", Self::equality, Expr::And)
    }

    fn joined(
        &mut self,
        first: Expr,
        word: &str,
        part: fn(&mut Self) -> Result<Expr, SqlError>,
        join: fn(Vec<Expr>) -> Expr,
    ) -> Result<Expr, SqlError> {
        if !self.word(word)? {
            return Ok(first);
        }
        let mut parts = vec![truth(first)?];
        loop {
            let next = part(self)?;
            parts.push(truth(next)?);
            if !self.word(word)? {
                return Ok(join(parts));
            }
        }
    }

    fn equality(&mut self) -> Result<Expr, SqlError> {
        let mut left = self.comparison()?;
        loop {
            left = if self.sign("=")? {
                let right = self.comparison()?;
                equal(left, right)?
            } else if self.sign("<>")? {
                let right = self.comparison()?;
                Expr::Not(Box::new(equal(left, right)?))
            } else if self.word("IS")? {
                let not = self.word("NOT")?;
                if !self.word("NULL")? {
                    return Err(self.unexpected("NULL"));
                }
                let null = Expr::Constant(Value::Null);
                let is_null = Expr::Compare(Comparison::Equal, Box::new((left, null)));
                match not {
                    true => Expr::Not(Box::new(is_null)),
                    false => is_null,
                }
            } else {
                return Ok(left);
            };
            self.count()?;
        }
    }

    fn comparison(&mut self) -> Result<Expr, SqlError> {
        let mut left = self.unary()?;
        loop {
            let not = self.not_of_test()?;
            left = match self.peek()?.clone() {
                Token::Sign(sign @ (">" | ">=" | "<" | "<=")) => {
                    self.take()?;
                    let right = self.unary()?;
                    let comparison = match sign {
                        ">" => Comparison::Greater,
                        ">=" => Comparison::GreaterOrEqual,
                        "<" => Comparison::Less,
                        _ => Comparison::LessOrEqual,
                    };
                    ordered(comparison, left, right)?
                }
                Token::Word(word @ ("CONTAINS" | "STARTSWITH" | "ENDSWITH")) => {
                    self.take()?;
                    Expr::Text {
                        of: Box::new(left),
                        test: match word {
                            "CONTAINS" => TextTest::Contains,
                            "STARTSWITH" => TextTest::StartsWith,
                            _ => TextTest::EndsWith,
                        },
                        search: self.text()?,
                        not,
                    }
                }
                Token::Word("BETWEEN") => {
                    self.take()?;
                    let low = self.unary()?;
                    if !self.word("AND")? {
                        return Err(self.unexpected("AND"));
                    }
                    let high = self.unary()?;
                    between(left, low, high, not)?
                }
                Token::Word("IN") => {
                    self.take()?;
                    let texts = self.list()?;
                    let Expr::Property(property) = left else {
                        return Err(SqlError::new("IN is about a property"));
                    };
                    Expr::In {
                        property,
                        texts,
                        not,
                    }
                }
                _ => return Ok(left),
            };
            self.count()?;
        }
    }

    /// Takes the NOT of NOT CONTAINS, NOT BETWEEN and the like.
    fn not_of_test(&mut self) -> Result<bool, SqlError> {
        const TESTS: [&str; 5] = ["CONTAINS", "STARTSWITH", "ENDSWITH", "BETWEEN", "IN"];
        if !self.word("NOT")? {
            return Ok(false);
        }
        match matches!(self.peek()?, Token::Word(w) if TESTS.contains(w)) {
            true => Ok(true),
            false => Err(self.unexpected("BETWEEN, IN or the like")),
        }
    }

    fn list(&mut self) -> Result<Vec<String>, SqlError> {
        self.expect_sign("(")?;
        let mut texts = vec![self.text()?];
        while self.sign(",")? {
            self.count()?;
            texts.push(self.text()?);
        }
        self.expect_sign(")")?;
        Ok(texts)
    }

    fn unary(&mut self) -> Result<Expr, SqlError> {
        self.count()?;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(SqlError::new(format!("nested deeper than {MAX_DEPTH}")));
        }
        let expr = if self.sign("+")? {
            self.unary()?
        } else if self.sign("-")? {
            Expr::Negate(Box::new(self.unary()?))
        } else if self.word("NOT")? {
            Expr::Not(Box::new(truth(self.unary()?)?))
        } else {
            self.primary()?
        };
        self.depth -= 1;
        Ok(expr)
    }

    fn primary(&mut self) -> Result<Expr, SqlError> {
        Ok(match self.take()? {
            Token::Text(text) => Expr::Constant(Value::Text(text.into())),
            Token::Decimal(digits) => Expr::Constant(decimal(&digits)?),
            Token::Float(text) => Expr::Constant(float(&text)?),
            Token::Word("TRUE") => Expr::Constant(Value::Bool(true)),
            Token::Word("FALSE") => Expr::Constant(Value::Bool(false)),
            Token::Word("NULL") => Expr::Constant(Value::Null),
            Token::Name(name) => Expr::Property(name),
            Token::Sign("(") => {
                let expr = self.or()?;
                self.expect_sign(")")?;
                expr
            }
            other => return Err(SqlError::new(format!("a value is expected, not {other:?}"))),
        })
    }
}

/// Where a truth value is wanted.
fn truth(expr: Expr) -> Result<Expr, SqlError> {
    match expr {
        Expr::Property(_) => Ok(Expr::Truth(Box::new(expr))),
        expr if expr.is_boolean() => Ok(expr),
        _ => Err(SqlError::new("a value stands where a condition is wanted")),
    }
}

fn decimal(digits: &str) -> Result<Value<'static>, SqlError> {
    let long: i64 = digits
        .parse()
        .map_err(|_| SqlError::new(format!("{digits} is too large")))?;
    Ok(i32::try_from(long).map_or(Value::Long(long), Value::Int))
}

fn float(text: &str) -> Result<Value<'static>, SqlError> {
    match value::double(text) {
        Ok(double) if double.is_finite() && double > 0.0 => Ok(Value::Double(double)),
        _ => Err(SqlError::new(format!("{text} is out of range"))),
    }
}

fn equal(left: Expr, right: Expr) -> Result<Expr, SqlError> {
    for side in [&left, &right] {
        if *side == Expr::Constant(Value::Null) {
            return Err(SqlError::new("NULL cannot be compared"));
        }
    }
    if let (Expr::Constant(Value::Bool(_)), Expr::Constant(right)) = (&left, &right)
        && !matches!(right, Value::Bool(_))
    {
        return Err(SqlError::new("a condition is compared with a value"));
    }
    Ok(Expr::Compare(Comparison::Equal, Box::new((left, right))))
}

fn ordered(comparison: Comparison, left: Expr, right: Expr) -> Result<Expr, SqlError> {
    for side in [&left, &right] {
        let number = matches!(
            side,
            Expr::Constant(Value::Int(_) | Value::Long(_) | Value::Double(_))
        );
        let constant = matches!(side, Expr::Constant(_));
        if (constant && !number) || side.is_boolean() {
            return Err(SqlError::new("only numbers are in order"));
        }
    }
    Ok(Expr::Compare(comparison, Box::new((left, right))))
}

fn between(of: Expr, low: Expr, high: Expr, not: bool) -> Result<Expr, SqlError> {
    if not {
        let below = ordered(Comparison::Less, of.clone(), low)?;
        let above = ordered(Comparison::Greater, of, high)?;
        return Ok(Expr::Or(vec![below, above]));
    }
    if let (Expr::Constant(low), Expr::Constant(high)) = (&low, &high)
        && value::order(high.clone(), low.clone()).is_ok_and(|order| order.is_lt())
    {
        return Err(SqlError::new("BETWEEN has its lower value first"));
    }
    let from = ordered(Comparison::GreaterOrEqual, of.clone(), low)?;
    let to = ordered(Comparison::LessOrEqual, of, high)?;
    Ok(Expr::And(vec![from, to]))
}
