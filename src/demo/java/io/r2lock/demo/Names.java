package io.r2lock.demo;

import java.util.regex.Pattern;
import org.springframework.http.HttpStatus;
import org.springframework.web.server.ResponseStatusException;

/** What callers may name things. */
final class Names {

    private static final Pattern VALID = Pattern.compile("\\P{Cntrl}{1,200}");

    private Names() {}

    /** Refuses, as a bad request, what is too long, or would be refused by the database. */
    static void check(String parameter, String name) {
        if (!VALID.matcher(name).matches()) {
            throw new ResponseStatusException(
                    HttpStatus.BAD_REQUEST, parameter + ": 1 to 200 characters, none of them a control character");
        }
    }
}
