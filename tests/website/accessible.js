// SPDX-License-Identifier: BSD-2-Clause
//
// What hinders a reader of the page that is shown: a list of sentences, empty
// when nothing does.  Measured as the browser shows it: colours, sizes,
// names, and what the keyboard reaches.  [WCAG 2.2, levels A and AA]
return (function () {
    const faults = [];
    const say = (element, what) => {
        const text = element.textContent.trim().slice(0, 40);
        faults.push(`<${element.tagName.toLowerCase()}> ${text}: ${what}`);
    };
    const shown = (element) => element.checkVisibility({ checkVisibilityCSS: true });

    // Contrast: 4.5, and 3 for large text (1.4.3).
    const parts = (colour) => {
        const found = colour.match(/[\d.]+/g).map(Number);
        return found.length === 3 ? [...found, 1] : found;
    };
    const over = (top, below) => [0, 1, 2].map(
        (i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
    const luminance = (colour) => {
        const [r, g, b] = colour.slice(0, 3).map((part) => {
            const share = part / 255;
            return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = (element) => {
        const layers = [];
        for (let at = element; at; at = at.parentElement) {
            layers.push(parts(getComputedStyle(at).backgroundColor));
        }
        return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
    };
    const seen = new Set();
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        if (seen.has(element) || !walker.currentNode.data.trim() || !shown(element)
            || ["SCRIPT", "STYLE"].includes(element.tagName)) {
            continue;
        }
        seen.add(element);
        const style = getComputedStyle(element);
        const back = ground(element);
        const ink = over(parts(style.color), back);
        const [dark, light] = [luminance(ink), luminance(back)].sort((a, b) => a - b);
        const size = parseFloat(style.fontSize);
        const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
        const ratio = (light + 0.05) / (dark + 0.05);
        if (ratio < (large ? 3 : 4.5)) {
            say(element, `a contrast of ${ratio.toFixed(2)}`);
        }
        if (size < 11) {
            say(element, `letters of ${size} pixels`);
        }
    }

    // Names: what a link, a field or a picture is called (1.1.1, 2.4.4, 4.1.2).
    for (const link of document.querySelectorAll("a[href]")) {
        if (!(link.textContent.trim() || link.getAttribute("aria-label"))) {
            say(link, "a link without words");
        }
    }
    for (const field of document.querySelectorAll("input, select, textarea, button")) {
        if (!(field.labels && field.labels.length) && !field.getAttribute("aria-label")) {
            say(field, "a field without a label");
        }
    }
    for (const image of document.images) {
        if (!image.alt.trim()) {
            say(image, `no alternative text for ${image.src}`);
        }
        image.loading = "eager";
    }
    for (const region of document.querySelectorAll("[role=group], [role=region], nav")) {
        if (!region.getAttribute("aria-label")) {
            say(region, "a region without a name");
        }
    }

    // Structure: one main text, headings in steps (1.3.1, 2.4.1, 2.4.2, 3.1.1).
    for (const [what, count] of [["main", 1], ["h1", 1], ["header", 1], ["footer", 1]]) {
        if (document.querySelectorAll(what).length !== count) {
            faults.push(`not ${count} <${what}>`);
        }
    }
    if (!document.title || !document.documentElement.lang) {
        faults.push("no title or no language");
    }
    let level = 0;
    for (const heading of document.querySelectorAll("h1, h2, h3, h4, h5, h6")) {
        const next = Number(heading.tagName[1]);
        if (shown(heading) && next > level + 1) {
            say(heading, `a step from ${level} to ${next}`);
        }
        level = shown(heading) ? next : level;
    }
    const first = document.querySelector("a");
    if (!first || !first.hash || !document.querySelector(first.hash)) {
        faults.push("the first link does not skip to the text");
    }

    // What scrolls is reached by the keyboard, and the page does not (1.4.10, 2.1.1).
    for (const element of document.body.querySelectorAll("*")) {
        const style = getComputedStyle(element);
        if (element.scrollWidth > element.clientWidth + 1 && style.overflowX === "auto"
            && shown(element) && element.tabIndex < 0) {
            say(element, "scrolls, and the keyboard can't");
        }
    }
    const root = document.documentElement;
    if (root.scrollWidth > root.clientWidth) {
        const wide = [...document.body.querySelectorAll("*")].filter(
            (e) => e.getBoundingClientRect().right > root.clientWidth + 1).pop();
        faults.push(`${root.scrollWidth} pixels wide in a window of ${root.clientWidth}`
            + (wide ? `: <${wide.tagName.toLowerCase()} class="${wide.className}">` : ""));
    }

    // An option in a text is one word: "-" at the end of a line and "d int" below is none.
    for (const option of document.querySelectorAll("p code, li code")) {
        if (/^-.{1,18}$/.test(option.textContent) && option.getClientRects().length > 1) {
            say(option, "an option on two lines");
        }
    }

    // Links that are fingers' work are tall enough (2.5.8), those in a text aside.
    for (const link of document.querySelectorAll("header a, .menu a, .around a, button")) {
        const box = link.getBoundingClientRect();
        if (shown(link) && box.height > 0 && box.height < 24) {
            say(link, `${box.height} pixels high`);
        }
    }
    return faults;
})();
