package io.r2lock.demo;

import org.springframework.http.MediaType;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.RestController;
import org.springframework.web.util.HtmlUtils;

/** The page that says what to try. */
@RestController
final class PageController {

    private static final String PAGE = """
            <!doctype html>
            <html lang="en">
            <meta charset="utf-8">
            <meta name="viewport" content="width=device-width">
            <title>r2lock demo</title>
            <style>
              body { font: 16px/1.5 sans-serif; max-width: 50em; margin: 2em auto; padding: 0 1em }
              pre { background: #f2f2f2; padding: .7em; overflow-x: auto }
            </style>
            <h1>r2lock demo</h1>
            <p>PostgreSQL advisory locks guard the handlers of this service. Try them in a shell.</p>

            <h2>One webhook, delivered 50 times at once</h2>
            <pre>%s</pre>
            <p>One is <code>processed</code>; 49 wait for it and are <code>already processed</code>, because the row that
            says so was committed together with the lock. Repeat it: now all 50 are. Take another id to start afresh.</p>

            <h2>A job that never runs twice at a time</h2>
            <pre>%s</pre>
            <p>It takes two seconds, or as long as <code>?millis=10000</code> says (60 seconds at most). Start it a second
            time meanwhile, in another shell: 409, with the reason. Press Ctrl-C in the first one: the caller is gone, so
            the job is cancelled, and its lock is free at once.</p>

            <h2>A second instance on the same database</h2>
            <pre>%s</pre>
            <p>Ask both for the job: one of them runs it.</p>
            <pre>%s</pre>
            </html>
            """;

    private final Commands commands;

    PageController(Commands commands) {
        this.commands = commands;
    }

    @GetMapping(path = "/", produces = MediaType.TEXT_HTML_VALUE)
    String page() {
        return PAGE.formatted(
                HtmlUtils.htmlEscape(commands.fiftyDeliveries()),
                HtmlUtils.htmlEscape(commands.job()),
                HtmlUtils.htmlEscape(commands.secondInstance()),
                HtmlUtils.htmlEscape(commands.jobOnTwoInstances()));
    }
}
