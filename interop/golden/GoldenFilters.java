import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.TreeMap;
import org.apache.rocketmq.filter.expression.EvaluationContext;
import org.apache.rocketmq.filter.parser.SelectorParser;

/**
 * Random SQL92 expressions, random properties, and what RocketMQ's own evaluator makes of them, for broker/src/sql/golden.txt. A line
 * is a letter, a tab, the properties the expression names, a tab, the expression. T, F, N (null), E (the evaluation fails), X (refused).
 * Properties are NAME=VALUE with {@code &} between them; what is no letter, digit, dot or sign stands in them as %XX of its UTF-8 bytes.
 *
 *   interop/golden/run --record 10000
 */
public class GoldenFilters {
    /** Of a hundred lines, how many may be refusals: most random texts are none, and say little. */
    private static final int REFUSED_PERCENT = 12;
    private static final String[] NAMES = {"i", "n", "d", "s", "t", "$x", "_y9", "Amount"};
    private static final String[] NUMBERS = {
        "0", "1", "2", "3", "4", "10", "-1", "-3", "+3", "007", "-0", "2147483647", "2147483648", "-2147483648", "-2147483649", "70000000000",
        "9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809", "99999999999999999999"};
    private static final String[] DOUBLES = {
        "2.5", "-2.5", "+2.5", ".5", "5.", "3.0", "1e3", "1E3", "1e-3", "1.5e+2", "-.5E1", "1e400", "-1e400", "1e-400", "-0.0", "0.0", "2.5d", "2.5F", "3f", "3D", "1e3d",
        "NaN", "+NaN", "-NaN", "Infinity", "+Infinity", "-Infinity", "0x1p3", "0X1.8P1", "-0x.8p2", "0x1p-2f", "0x10p0d",
        "4.9e-324", "1.7976931348623157e308", "1.7976931348623159e308", "9007199254740993", "0.1", "0.30000000000000004"};
    private static final String[] NO_NUMBERS = {
        "", " ", "-", "+", ".", "e1", "1e", "1e+", "--1", "+-1", "1-", "3L", "1d1", "2.5dd", "1_000", "1,000", "0x", "0x10", "0x1p", "0xp3", "x1", "nan", "NAN", "inf", "infinity",
        "INF", "Infinityd", "NaNf", "1 2", "- 1", "1.2.3", "\u0663", "\uff13", "\u00a03", "3\u00a0", "\u20033"};
    private static final String[] SPACED = {" 3", "3 ", "\t3\n", " 2.5 ", "\u001f3", " NaN", "Infinity ", " 0x1p3 ", " 3d", "3 d"};
    private static final String[] WORDS = {
        "order", "Order", "ord", "er", "it's", "true", "TRUE", "True", "false", "FALSE", " true", "tru", "null", "NULL", "x", "a b", "%", "&=", "gr\u00f6\u00dfe", "\u4e16\u754c", "\ud83d\ude80",
        "\uffee", "\u0130", "TR\u00dcE", "\\", "\"", "'"};

    private final Random random;

    private GoldenFilters(long seed) {
        random = new Random(seed);
    }

    @SafeVarargs
    private <T> T one(T... of) {
        return of[random.nextInt(of.length)];
    }

    /** The value of a property, or null when it is not there. */
    private String property() {
        return switch (random.nextInt(12)) {
            case 0 -> null;
            case 1, 2, 3 -> one("0", "1", "2", "3", "4", "5", "-1");
            case 4 -> one(NUMBERS);
            case 5, 6 -> one(DOUBLES);
            case 7 -> one(NO_NUMBERS);
            case 8 -> one(SPACED);
            case 9 -> (random.nextInt(5) == 0 ? one("-", "+", " ") : "") + random.nextInt(7) + one("", ".", ".5", ".0", "e0", "e1", "f", "d", "L", " ");
            default -> one(WORDS);
        };
    }

    private String name() {
        return one(NAMES);
    }

    private String text() {
        return "'" + (random.nextInt(4) == 0 ? one(one(NUMBERS), one(DOUBLES), one(SPACED)) : one(WORDS)).replace("'", "''").replaceAll("[\t\n\u001f]", " ") + "'";
    }

    private String integer() {
        return one("", "", "", "-", "+", "- -") + one("0", "1", "2", "3", "4", "3", "5", "10", "3L", "3l", "2147483647", "2147483648", "70000000000", "9223372036854775807");
    }

    private String decimal() {
        return one("", "", "", "-", "+", "- ") + one("2.5", "2.", ".5", "3e0", "3.0", "1E-2", "1e3", "4.5", "0.1", "1.5E+2", "1e308", "2.5e0", "0.30000000000000004");
    }

    private String number() {
        return random.nextInt(5) < 3 ? integer() : decimal();
    }

    /** What the grammar takes and, most of the time, the parser's checks of types too. */
    private String condition(int depth) {
        if (depth > 0 && random.nextInt(4) > 0) {
            String joined = condition(depth - 1) + one(" AND ", " or ", " and ", " OR ", " AND ", " OR ", " = ", " <> ") + condition(depth - 1);
            return switch (random.nextInt(6)) {
                case 0, 1 -> "(" + joined + ")";
                case 2 -> one("NOT ", "not ") + "(" + joined + ")";
                default -> joined;
            };
        }
        String not = one("", "", "NOT ");
        String compare = one(" = ", "=", " <> ", ">", " >= ", "<", " <= ");
        return switch (random.nextInt(16)) {
            case 0, 1, 2 -> name() + compare + number();
            case 3 -> number() + compare + name();
            case 4, 5 -> name() + compare + name();
            case 6 -> name() + one(" = ", " <> ") + text();
            case 7 -> text() + one(" = ", " <> ") + one(name(), text());
            case 8 -> name() + one(" = ", " <> ") + one("TRUE", "false", "True");
            case 9 -> name() + " IS " + not + "NULL";
            case 10, 11 -> between(not);
            case 12 -> name() + " " + not + "IN (" + text() + (random.nextBoolean() ? "" : ", " + text() + "," + text()) + ")";
            case 13 -> one(name(), name(), text()) + " " + not + one("CONTAINS ", "STARTSWITH ", "EndsWith ") + text();
            case 14 -> number() + compare + number();
            default -> one("NOT ", "", "") + one(name(), "TRUE", "FALSE", "NULL", "(" + name() + ")");
        };
    }

    private String between(String not) {
        String low = number();
        String high = number();
        return (random.nextInt(6) == 0 ? number() : name()) + " " + not + "BETWEEN " + low + " AND " + high;
    }

    /** Anything: most of it is refused. */
    private String wild(int depth) {
        if (depth > 0) {
            return wild(depth - 1) + one(" AND ", " OR ", "=", " ", ")", "(", " NOT ", " IS ", ",", "--", "#", "'", "/*", "*/", " BETWEEN ", " IN ") + wild(depth - 1);
        }
        return one(name(), text(), number(), condition(0), "(" + condition(0) + ")", "NOT " + name(), "'", "007", "9223372036854775808", "1e400", "0.0", "0x10", "3f", "NULL", ";", "gr\u00f6\u00dfe");
    }

    private static String encoded(String s) {
        StringBuilder out = new StringBuilder();
        for (byte b : s.getBytes(StandardCharsets.UTF_8)) {
            boolean plain = b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || "._+-$".indexOf(b) >= 0;
            out.append(plain ? String.valueOf((char) b) : String.format("%%%02X", b & 0xff));
        }
        return out.toString();
    }

    private static String verdict(String sql, Map<String, String> properties, Set<String> asked) {
        EvaluationContext context = new EvaluationContext() {
            @Override
            public Object get(String name) {
                asked.add(name);
                return properties.get(name);
            }

            @Override
            public Map<String, Object> keyValues() {
                return new HashMap<>(properties);
            }
        };
        try {
            var expression = SelectorParser.parse(sql);
            try {
                Object value = expression.evaluate(context);
                return value == null ? "N" : (Boolean) value ? "T" : "F";
            } catch (Exception e) {
                return "E";
            }
        } catch (Exception e) {
            return "X";
        }
    }

    private List<String> lines(int count) {
        List<String> lines = new ArrayList<>();
        int refused = 0;
        while (lines.size() < count) {
            Map<String, String> properties = new TreeMap<>();
            for (String name : NAMES) {
                String value = property();
                if (value != null) {
                    properties.put(name, value);
                }
            }
            String sql = random.nextInt(12) == 0 ? wild(random.nextInt(3)) : condition(random.nextInt(3));
            Set<String> asked = new HashSet<>();
            String verdict = verdict(sql, properties, asked);
            if (verdict.equals("X") && ++refused * 100 > REFUSED_PERCENT * (lines.size() + 1)) {
                refused--;
                continue;
            }
            // those that were not looked at are kept when the text names them: who looks must not find another answer
            properties.keySet().removeIf(name -> verdict.equals("X") || !asked.contains(name) && !sql.contains(name));
            List<String> pairs = new ArrayList<>();
            properties.forEach((name, value) -> pairs.add(encoded(name) + "=" + encoded(value)));
            lines.add(verdict + "\t" + String.join("&", pairs) + "\t" + sql);
        }
        return lines;
    }

    /** COUNT SEED */
    public static void main(String[] args) {
        var out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        new GoldenFilters(Long.parseLong(args[1])).lines(Integer.parseInt(args[0])).forEach(out::println);
    }
}
