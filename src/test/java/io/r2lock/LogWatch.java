package io.r2lock;

import ch.qos.logback.classic.Logger;
import ch.qos.logback.classic.spi.ILoggingEvent;
import ch.qos.logback.classic.spi.IThrowableProxy;
import ch.qos.logback.core.AppenderBase;
import io.netty.util.ResourceLeakDetector;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import org.slf4j.LoggerFactory;
import org.slf4j.event.Level;

/** Collects the log events that no test should cause. */
final class LogWatch extends AppenderBase<ILoggingEvent> {

    private static final String LEAKS = ResourceLeakDetector.class.getName();

    /** The lowest level that is unexpected, by the prefix of the logger. */
    private static final Map<String, Level> UNEXPECTED =
            Map.of("io.r2lock", Level.WARN, "reactor.core.publisher.Operators", Level.WARN, LEAKS, Level.ERROR);

    private final Map<String, Level> allowed = new ConcurrentHashMap<>();
    private final Queue<ILoggingEvent> events = new ConcurrentLinkedQueue<>();

    /** Allows events of this level and below from the loggers with this prefix, until the next start. */
    void allow(Level level, String loggerPrefix) {
        allowed.put(loggerPrefix, level);
    }

    @Override
    public void start() {
        allowed.clear();
        events.clear();
        super.start();
        root().addAppender(this);
    }

    @Override
    public void stop() {
        root().detachAppender(this);
        super.stop();
    }

    /** The events that were not allowed. */
    List<String> unexpected() {
        return events.stream()
                .filter(event -> allowed.entrySet().stream()
                        .noneMatch(rule -> event.getLoggerName().startsWith(rule.getKey())
                                && rank(event) <= rule.getValue().toInt()))
                .map(LogWatch::text)
                .toList();
    }

    /** The reports of buffers that were not released. */
    List<String> leaks() {
        return events.stream()
                .filter(event -> event.getLoggerName().equals(LEAKS))
                .map(LogWatch::text)
                .toList();
    }

    @Override
    protected void append(ILoggingEvent event) {
        boolean unexpected = UNEXPECTED.entrySet().stream()
                .anyMatch(rule -> event.getLoggerName().startsWith(rule.getKey())
                        && rank(event) >= rule.getValue().toInt());
        if (unexpected) {
            events.add(event);
        }
    }

    private static int rank(ILoggingEvent event) {
        // slf4j's numbers are logback's, divided by a thousand
        return event.getLevel().toInt() / 1000;
    }

    private static String text(ILoggingEvent event) {
        IThrowableProxy thrown = event.getThrowableProxy();
        return event.getLevel() + " " + event.getLoggerName() + " - " + event.getFormattedMessage()
                + (thrown == null ? "" : " (" + thrown.getClassName() + ": " + thrown.getMessage() + ")");
    }

    private static Logger root() {
        return (Logger) LoggerFactory.getLogger(org.slf4j.Logger.ROOT_LOGGER_NAME);
    }
}
