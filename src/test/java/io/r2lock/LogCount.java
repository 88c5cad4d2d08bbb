package io.r2lock;

import ch.qos.logback.classic.Logger;
import ch.qos.logback.classic.spi.ILoggingEvent;
import ch.qos.logback.core.AppenderBase;
import java.util.List;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import org.slf4j.LoggerFactory;
import org.slf4j.event.Level;

/** Counts what the library logs, from this level upwards. */
final class LogCount extends AppenderBase<ILoggingEvent> implements AutoCloseable {

    /** The only one that is told for each hold, and that no trouble of the server causes. */
    private static final String HOLD_WARNING = "holdWarning";

    private final Logger library = (Logger) LoggerFactory.getLogger("io.r2lock");
    private final Level lowest;
    private final Queue<String> messages = new ConcurrentLinkedQueue<>();

    LogCount(Level lowest) {
        this.lowest = lowest;
        start();
        library.addAppender(this);
    }

    @Override
    protected void append(ILoggingEvent event) {
        // slf4j's numbers are logback's, divided by a thousand
        if (event.getLevel().toInt() / 1000 >= lowest.toInt()
                && !event.getFormattedMessage().contains(HOLD_WARNING)) {
            messages.add(event.getFormattedMessage());
        }
    }

    List<String> messages() {
        return List.copyOf(messages);
    }

    @Override
    public void close() {
        library.detachAppender(this);
        stop();
    }
}
