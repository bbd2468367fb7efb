/**
 * Keyboard layouts by the names that qemu has for them. A layout is what is printed on the keys: four rows of characters, without
 * Shift, with it and, where there is any, with AltGr; a space is no character. The first row begins left of 1, the last with the key
 * beside the left Shift that ISO keyboards have.
 */

type Row = readonly [plain: string, shift: string, altGr?: string];
export type Layout = readonly [Row, Row, Row, Row];

const latinLetters: Row = ['qwertyuiop[]', 'QWERTYUIOP{}'];
const nordicLetters: Row = ['qwertyuiopå¨', 'QWERTYUIOPÅ^', '  €        ~'];
const europeanLast: Row = ['<zxcvbnm,.-', '>ZXCVBNM;:_'];

const swedish: Layout = [
  ['§1234567890+´', '½!"#¤%&/()=?`', '  @£$€ {[]}\\ '],
  nordicLetters,
  ["asdfghjklöä'", 'ASDFGHJKLÖÄ*'],
  ['<zxcvbnm,.-', '>ZXCVBNM;:_', '|      µ   '],
];

export const layouts: Readonly<Record<string, Layout>> = {
  'en-us': [
    ['`1234567890-=', '~!@#$%^&*()_+'],
    latinLetters,
    ["asdfghjkl;'\\", 'ASDFGHJKL:"|'],
    [' zxcvbnm,./', ' ZXCVBNM<>?'],
  ],
  'en-gb': [
    ['`1234567890-=', '¬!"£$%^&*()_+', '¦   €        '],
    latinLetters,
    ["asdfghjkl;'#", 'ASDFGHJKL:@~'],
    ['\\zxcvbnm,./', '|ZXCVBNM<>?'],
  ],
  de: [
    ['^1234567890ß´', '°!"§$%&/()=?`', '  ²³   {[]}\\ '],
    ['qwertzuiopü+', 'QWERTZUIOPÜ*', '@ €        ~'],
    ['asdfghjklöä#', "ASDFGHJKLÖÄ'"],
    ['<yxcvbnm,.-', '>YXCVBNM;:_', '|      µ   '],
  ],
  fr: [
    ['²&é"\'(-è_çà)=', ' 1234567890°+', '  ~#{[|`\\^@]}'],
    ['azertyuiop^$', 'AZERTYUIOP¨£', '  €        ¤'],
    ['qsdfghjklmù*', 'QSDFGHJKLM%µ'],
    ['<wxcvbn,;:!', '>WXCVBN?./§'],
  ],
  es: [
    ["º1234567890'¡", 'ª!"·$%&/()=?¿', '\\|@#~€¬      '],
    ['qwertyuiop`+', 'QWERTYUIOP^*', '  €       []'],
    ['asdfghjklñ´ç', 'ASDFGHJKLÑ¨Ç', '          {}'],
    europeanLast,
  ],
  it: [
    ["\\1234567890'ì", '|!"£$%&/()=?^'],
    ['qwertyuiopè+', 'QWERTYUIOPé*', '  €       []'],
    ['asdfghjklòàù', 'ASDFGHJKLç°§', '         @# '],
    europeanLast,
  ],
  pt: [
    ["\\1234567890'«", '|!"#$%&/()=?»', '  @£§€ {[]}  '],
    ['qwertyuiop+´', 'QWERTYUIOP*`', '  €       ¨ '],
    ['asdfghjklçº~', 'ASDFGHJKLÇª^'],
    europeanLast,
  ],
  sv: swedish,
  fi: swedish,
  da: [
    ['½1234567890+´', '§!"#¤%&/()=?`', '  @£$€ {[]} |'],
    nordicLetters,
    ["asdfghjklæø'", 'ASDFGHJKLÆØ*'],
    ['<zxcvbnm,.-', '>ZXCVBNM;:_', '\\      µ   '],
  ],
  no: [
    ['|1234567890+\\', '§!"#¤%&/()=?`', '  @£$€ {[]} ´'],
    nordicLetters,
    ["asdfghjkløæ'", 'ASDFGHJKLØÆ*'],
    europeanLast,
  ],
};

export const DEFAULT_LAYOUT = 'en-us';
