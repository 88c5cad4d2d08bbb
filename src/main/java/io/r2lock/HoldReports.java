package io.r2lock;

import java.time.Duration;
import java.util.function.Consumer;
import java.util.stream.Collectors;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** What an operator has to know of holds: tells the log and the {@link LockListener}. */
final class HoldReports {

    private static final Logger LOG = LoggerFactory.getLogger(HoldReports.class);

    private final ClientOptions options;

    HoldReports(ClientOptions options) {
        this.options = options;
    }

    void longHold(Hold hold, Duration age) {
        LOG.warn(
                "Held for {} ms, which is longer than holdWarning: {} on {}, backend {}. A long hold blocks every other caller"
                        + " of its key, and in transaction scope keeps a transaction open.",
                age.toMillis(),
                hold.mode(),
                labels(hold),
                hold.backendPid());
        tell(listener -> listener.longHold(hold.keys(), hold.mode(), age));
    }

    void lost(Hold hold, String why) {
        Duration age = hold.age();
        options.warnings()
                .warn("Lost after " + age.toMillis() + " ms: " + hold.mode() + " on " + labels(hold) + ", backend "
                        + hold.backendPid() + ": " + why + ". Its work was cancelled.");
        tell(listener -> listener.lost(hold.keys(), hold.mode(), age, why));
    }

    void cancelIgnored(Hold hold, Duration since) {
        options.warnings()
                .warn("Work went on for " + since.toMillis() + " ms after it was cancelled, without its lock: "
                        + hold.mode() + " on " + labels(hold)
                        + ". It ignores its cancellation, as code that blocks does.");
        tell(listener -> listener.cancelIgnored(hold.keys(), hold.mode(), since));
    }

    void collision(LockKey held, LockKey asked) {
        options.warnings()
                .warn("Two different names are one lock: " + held.label() + " and " + asked.label()
                        + ". Their holders exclude each other without need, and inside one another they share the lock. The"
                        + " names are at DEBUG.");
        LOG.debug("One lock by two names: {} and {}", held, asked);
        tell(listener -> listener.collision(held, asked));
    }

    private static String labels(Hold hold) {
        return hold.keys().stream().map(LockKey::label).collect(Collectors.joining(", "));
    }

    private void tell(Consumer<LockListener> event) {
        try {
            event.accept(options.listener());
        } catch (RuntimeException thrown) {
            options.warnings().warn("The LockListener failed: " + thrown);
            LOG.debug("The LockListener failed", thrown);
        }
    }
}
