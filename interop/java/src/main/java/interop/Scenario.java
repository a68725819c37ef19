package interop;

/** One self-contained test. It makes its own topics and groups, so that any number of them run side by side. */
interface Scenario {
    /**
     * @return what was seen, as {@code key=value} pairs for the PASS line
     * @throws Exception any exception or {@link Check.Failed} fails the scenario
     */
    String run(Env env) throws Exception;

    /** Whether it changes something for others and so runs when nothing else does. */
    default boolean alone() {
        return false;
    }
}
