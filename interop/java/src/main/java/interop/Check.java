package interop;

import java.util.concurrent.Callable;

/** Assertions and bounded waiting. */
final class Check {
    /** Poll step of {@link #until}, ms. */
    private static final long STEP_MS = 20;

    private Check() {}

    /** What an assertion throws; its message is the reason on the FAIL line. */
    static final class Failed extends RuntimeException {
        Failed(String reason) {
            super(reason);
        }
    }

    static void that(boolean ok, String reason, Object... args) {
        if (!ok) {
            throw new Failed(String.format(reason, args));
        }
    }

    static void same(Object got, Object want, String what) {
        that(want == null ? got == null : want.equals(got), "%s: got <%s>, want <%s>", what, got, want);
    }

    /** Waits until the condition holds; fails with {@code what} and the last exception, if any, after {@code seconds}. */
    static void until(int seconds, Callable<Boolean> condition, String what, Object... args) throws Exception {
        long end = System.nanoTime() + seconds * 1_000_000_000L;
        Exception last = null;
        do {
            try {
                if (condition.call()) {
                    return;
                }
            } catch (Failed e) {
                throw e;
            } catch (Exception e) {
                last = e;
            }
            Thread.sleep(STEP_MS);
        } while (System.nanoTime() < end);
        throw new Failed("not within " + seconds + " s: " + String.format(what, args) + (last == null ? "" : " (" + last + ")"));
    }
}
